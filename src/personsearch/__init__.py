"""Person search compressed for cameras: teacher, student, engine, stream.

Start reading at ``core`` (the contracts), then follow the data: ``data``, ``models``, ``train``,
``distill``, ``export``, ``runtime``. ``benchmarks`` measures every step; ``cli`` is the one command.
"""

__version__ = "0.1.0"
