"""The dynamic providers: what Pulumi's engine calls for each resource.

This module's path and the classes' names are part of every stack's state: the SDK stores a provider
from an installed module by reference. They are never renamed; the modules behind may move.

What the engine and the Python dynamic host do, as far as the providers rely on it (seen on the
Pulumi CLI 3.260 with the SDK 3.272):

- `check` gets the old inputs, the other calls get old outputs; in a preview only `check` and `diff`
  are called, and what is not known yet is an `pulumi.output.Unknown` there.
- every resource that the program declares is checked before anything is deleted, and deletes come
  last, after the whole program succeeded; in a destroy nothing is checked.
- what is printed appears under Diagnostics, in the preview and in the update.
- a step that changes nothing stores the new inputs and keeps the old outputs.
"""

from ._batch import AutoMonitorSetupBatchProvider
from ._membership import AutoMonitorSetupMembershipProvider
from ._setup import AutoMonitorSetupProvider

__all__ = [
    "AutoMonitorSetupBatchProvider",
    "AutoMonitorSetupMembershipProvider",
    "AutoMonitorSetupProvider",
]

for _provider in (
    AutoMonitorSetupProvider,
    AutoMonitorSetupBatchProvider,
    AutoMonitorSetupMembershipProvider,
):
    _provider.__module__ = __name__
