"""The settings of what a mesh asks of its machine."""

from meshkit.service import Section


class MachineSettings(Section):
    """What staging asks of the machine that it is on."""

    # Whether idle processors look for work instead of sleeping while the mesh is busy.
    awake_while_busy: bool = True
