"""Teachers that are not of this project: any re-ID network as a look-up table, any detector as boxes.

In come a network's file (ONNX, or OpenVINO's IR), how pixels become its input, and frames. Out comes what a student
learns from without ever running that network: ``crop_embedder`` and ``identity_table`` turn a re-ID network and the
training set's true boxes into one unit vector an identity (`personsearch.core.lookup_table_file`); ``box_detector`` and
``box_source`` turn a detector and unlabelled frames into a data set folder whose boxes carry its scores.

Start reading at ``network`` and ``pixels``. Nothing is guessed about a network: a preset or options state its input.
"""
