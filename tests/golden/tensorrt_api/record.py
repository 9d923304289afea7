"""Records what a version of TensorRT's Python binding offers, from its real wheel, without TensorRT and without a GPU.

    pip download --no-deps --only-binary=:all: tensorrt-cu12-bindings==10.3.0
    python tests/golden/tensorrt_api/record.py tensorrt_cu12_bindings-10.3.0-*.whl

The wheel holds the binding alone (1 MB); its libraries are gigabytes. The binding takes a handful of C functions from
them, so empty libraries with those functions are compiled beside it, and Python then imports the binding itself and
reads classes, members, signatures and enums from it. Nothing of TensorRT runs. Needs Linux, ``cc``, ``readelf``, ``nm``
and a wheel for the Python that runs this.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLASSES = (
    "Builder", "IBuilderConfig", "INetworkDefinition", "IOptimizationProfile", "ITimingCache", "IProgressMonitor",
    "OnnxParser", "ParserError", "ILogger", "IHostMemory", "Runtime", "ICudaEngine", "IExecutionContext",
    "EngineInspector", "IRuntimeConfig", "ITensor", "ILayer", "Dims",
)  # fmt: skip
DUMP = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
module = importlib.import_module(sys.argv[2])
classes, enums = {}, {}
for name in sys.argv[3].split(","):
    owner = getattr(module, name, None)
    if owner is None:
        continue
    members = {}
    for key in dir(owner):
        value = getattr(owner, key)
        if key == "__init__" or not key.startswith("_"):
            if isinstance(value, property):
                members[key] = "read and write" if value.fset is not None else "read"
            elif callable(value) and not isinstance(value, type):
                lines = (value.__doc__ or "").splitlines()
                members[key] = [line.split(". ", 1)[-1].strip() for line in lines if "(self" in line and "->" in line]
    classes[name] = members
for name in dir(module):
    value = getattr(module, name)
    if isinstance(value, type) and hasattr(value, "__members__"):
        enums[name] = {key: int(member) for key, member in value.__members__.items()}
severity = module.ILogger.Severity
enums["ILogger.Severity"] = {key: int(member) for key, member in severity.__members__.items()}
print(json.dumps({"names": [n for n in dir(module) if not n.startswith("_")], "classes": classes, "enums": enums}))
"""


def record(wheel: Path) -> dict[str, object]:
    """The surface of one wheel.

    Args:
        wheel: of bindings, for this Python.
    """
    found = re.match(r"(\w+?)-([\d.]+?)(?:\.post\d+)?-", wheel.name)
    assert found is not None, f"{wheel.name} is no wheel of bindings"
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        binding = next(Path(folder).glob("*_bindings/tensorrt*.so"))
        stub_libraries(binding)
        arguments = [sys.executable, "-c", DUMP, str(binding.parent), binding.stem, ",".join(CLASSES)]
        surface = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
        package = binding.parent.name
    text = json.dumps(surface).replace(f"{package}.{binding.stem}.", "").replace(f"{binding.stem}.", "")
    return {
        "version": found[2],
        "wheel": wheel.name,
        "wheel_sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "recorded_by": "tests/golden/tensorrt_api/record.py, importing the wheel's binding over empty libraries",
        **json.loads(text),
    }


def stub_libraries(binding: Path) -> None:
    """Compiles empty libraries for what ``binding`` is linked to and is not part of the system."""
    dynamic = subprocess.run(["readelf", "-d", str(binding)], check=True, capture_output=True, text=True).stdout
    symbols = subprocess.run(["nm", "-D", "-u", str(binding)], check=True, capture_output=True, text=True).stdout
    functions = re.findall(r"U (\w+_INTERNAL|get\w*PluginRegistry|getNvOnnxParserVersion|initLib\w+)$", symbols, re.M)
    source = binding.parent / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions))
    for library in re.findall(r"NEEDED.*\[(lib(?:nv|tensorrt)[\w.]+)\]", dynamic):
        target = binding.parent / library
        link = ["-shared", "-fPIC", f"-Wl,-soname,{library}"]
        subprocess.run(["cc", *link, "-o", str(target), str(source)], check=True)


def write(surface: dict[str, object]) -> Path:
    """Puts a surface beside this file, one line a class."""
    title = "tensorrt_rtx" if "rtx" in str(surface["wheel"]) else "tensorrt"
    major, minor = str(surface["version"]).split(".")[:2]
    path = Path(__file__).with_name(f"{title}-{major}.{minor}.json")
    lines = []
    for key, value in surface.items():
        if isinstance(value, dict):
            rows = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items()]
            lines.append(f"{json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"{write(record(Path(name)))}\n")
