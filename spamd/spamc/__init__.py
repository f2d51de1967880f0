"""SpamAssassin's client protocol: a second door of the daemon, for Exim, spamass-milter, amavis and whoever runs spamc."""
