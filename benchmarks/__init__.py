"""Measuring every arrow: accuracy, operations and latency of checkpoints and artifacts.

In: a checkpoint or an artifact (`systems.open_system` gives both one face) and a data set, or frames. Out: frozen
figures (`AccuracyResult`, `ReentryResult`, `FlopsResult`, `SystemLatency`), and `results.Result`, the JSON record that
states artifact, machine, versions and command beside the number; tables are generated from these records.

``accuracy`` scores a search data set, ``reentry`` a tracking sequence whose people come back, ``histogram`` is the
baseline that learned nothing, ``flops`` counts multiplications on the module and on the exported graph, ``latency_run``
times systems side by side. Start reading at `accuracy.measure_accuracy`.
"""
