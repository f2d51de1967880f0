"""From labelled mail to a checkpoint: datasets, splits, freezing policies, the loop, and the judgement."""
