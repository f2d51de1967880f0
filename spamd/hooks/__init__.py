"""Plugin hooks: `specs` says what can be plugged in, `manager` finds and checks the plugins.

A plugin marks its functions with `hookimpl` from here: `from spamd.hooks import hookimpl`.
"""

from spamd.hooks.specs import hookimpl

__all__ = ["hookimpl"]
