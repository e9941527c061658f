"""The dynamic providers: what Pulumi's engine calls for each resource.

The state of every stack contains this module's path and the class names: the SDK stores a provider
from an installed module by reference. Never rename them; the private modules may move.

The providers rely on this behaviour of the engine and the Python dynamic host (seen on the Pulumi
CLI 3.260 with the SDK 3.272):

- `check` receives the old inputs, all other calls the old outputs. A preview calls only `check` and
  `diff`, with a `pulumi.output.Unknown` for each unknown value.
- The engine checks every declared resource before it deletes any. Deletes run last, after the whole
  program succeeded. A destroy calls no `check`.
- Standard output appears under Diagnostics, in previews and updates.
- A step without changes stores the new inputs and keeps the old outputs.
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
