"""The processor of a bench's run: the level of instructions, its cap for ours and for the peers, and a page's name."""

import os
import platform
import re
import subprocess
from pathlib import Path

import turns

# A cap at each level for PyTorch: of its own kernels, of oneDNN, and of MKL.
CAPS = {
    "baseline": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx2-vnni": ("avx2", "AVX2_VNNI", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
    "avx512-vnni": ("avx512", "AVX512_CORE_VNNI", "AVX512"),
    "avx512-bf16": ("avx512", "AVX512_CORE_BF16", "AVX512"),
}
VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
# AMD's families in /proc/cpuinfo, where the model's name does not say more.
ZEN = {23: "zen2", 25: "zen4", 26: "zen5"}


def add_argument(parser):
    parser.add_argument("--cpu", metavar="LEVEL", help="cap the instructions, ours by EPSILON_CPU and the peers' likewise")


class Processor:
    """What this CPU has, under the cap that was asked for; all programs that are started from now on are under it."""

    def __init__(self, asked):
        asked = asked or os.environ.get("EPSILON_CPU")
        program = turns.build("levels", "-p", "epsilon-kernels", "--example", "levels")
        levels = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
        if asked and asked not in levels:
            raise SystemExit(f"--cpu {asked}: this CPU has {', '.join(levels)}")
        self.level = asked or levels[-1]
        self.capped = self.level != levels[-1]
        if self.capped:
            os.environ["EPSILON_CPU"] = self.level
            os.environ |= dict(zip(VARIABLES, CAPS.get(self.level, ())))

    def precisions(self):
        """The precisions of a backbone that ours has."""
        bf16 = ["bf16"] * (self.level == "avx512-bf16")
        int8 = ["int8"] * (self.level not in ("baseline", "neon"))
        return ["f32", *bf16, *int8]

    def check(self, precisions):
        missing = sorted(set(precisions) - set(self.precisions()))
        if missing or "f32" not in precisions:
            raise SystemExit(f"--precision: f32 and any of {', '.join(self.precisions())} at the level {self.level}")

    def has_bf16(self):
        return "bf16" in self.precisions()

    def onnx(self, precision="f32"):
        """ONNX Runtime's name in a table: it cannot be capped."""
        return f"ONNX Runtime {precision}" + ", uncapped" * self.capped

    def slug(self):
        """For a page's name, such as `epyc-zen5-avx512-bf16`."""
        return f"{kind(Path('/proc/cpuinfo'))}-{self.level}"

    def facts(self):
        """Bullets for a page: the level, and what is not there."""
        lines = [f"instructions: `{self.level}`" + ", the highest of this CPU" * (not self.capped)]
        if self.capped:
            settings = ", ".join(f"{name}={os.environ[name]}" for name in ("EPSILON_CPU", *VARIABLES) if name in os.environ)
            lines.append(f"capped by {settings}; ONNX Runtime has no such setting and takes all that the CPU has")
        absent = [name for name in ("bf16", "int8") if name not in self.precisions()]
        if absent:
            lines.append(f"not there: {' and '.join(absent)}, which ours has no instructions for at this level")
        return "".join(f"\n- {line}" for line in lines)


def kind(cpuinfo):
    """The processor in a few words for a file's name."""
    if not cpuinfo.exists():
        return platform.machine()
    lines = cpuinfo.read_text().splitlines()
    known = dict(reversed([re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line]))
    name = re.sub(r"\(R\)|\(TM\)|\d+-Core|@.*|\b(AMD|Intel|CPU|Processor)\b", " ", known.get("model name", platform.machine()))
    words = re.findall(r"[a-z0-9]+", name.lower())
    if known.get("vendor_id") == "AuthenticAMD" and not any(character.isdigit() for character in name):
        words.append(ZEN.get(int(known["cpu family"]), f"family{known['cpu family']}"))
    return "-".join(words)
