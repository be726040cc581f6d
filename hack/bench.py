#!/usr/bin/env python3
"""The measuring half of hack/bench, which prepares all that is named here.

A case times every runtime once in each round, in an order that is drawn anew for
each round: what one container leaves to the kernel's workers (a dying network
namespace, most of all) then slows each of the others equally often.
"""

import argparse
import ctypes
import json
import os
import random
import select
import shutil
import statistics
import struct
import subprocess
import sys
import time

CGROUPS = "/sys/fs/cgroup"
PREFIX = f"orlop-bench-{os.getpid()}-"
PR_SET_CHILD_SUBREAPER = 36
PT_INTERP = 3
# What a runtime is started with: a part of what a person's shell has, as a daemon's children have it.
ENVIRONMENT = {"PATH": os.environ["PATH"]}


class Failed(Exception):
    """A runtime did not do what a case asked of it."""


class Runtime:
    """One contestant: its binary and its own state directory."""

    def __init__(self, name, path, work, crowd):
        self.name, self.path = name, path
        self.state = os.path.join(work, f"state-{name}")
        self.errors = os.path.join(work, f"errors-{name}")
        null = os.open("/dev/null", os.O_RDWR)
        errors = os.open(self.errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        # Opened once: what is done here to start a runtime is a part of each time, and takes the processors from fifty at once.
        self.stdio = [(os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate((null, null, errors))]
        self.work = work
        self.pid_file = os.path.join(work, f"pid-{name}")
        self.made = 0
        self.running = None
        self.lender = None
        self.crowd = crowd

    def fresh_id(self):
        self.made += 1
        return f"{PREFIX}{self.name}-{self.made}"

    def command(self, *words):
        return [self.path, "--root", self.state, *words]

    def bundle(self, kind):
        return os.path.join(self.work, kind)

    def run_command(self, kind="bundle"):
        if self.name == "floor":
            return [self.path, "run", os.path.join(self.bundle(kind), "rootfs"), self.fresh_id()]
        return self.command("run", "--bundle", self.bundle(kind), self.fresh_id())

    def begin(self, kind="sleeping"):
        """Starts a container that stays, and returns its name."""
        name = self.fresh_id()
        self.timed(self.command("run", "--detach", "--pid-file", self.pid_file, "--bundle", self.bundle(kind), name))
        return name

    def end(self, name):
        subprocess.run(self.command("delete", "--force", name), check=False, capture_output=True)

    def spawn(self, argv):
        return os.posix_spawn(argv[0], argv, ENVIRONMENT, file_actions=self.stdio)

    def must_succeed(self, argv, status):
        if status != 0:
            with open(self.errors, encoding="utf-8", errors="replace") as file:
                said = file.read().strip()
            raise Failed(f"{' '.join(argv)}: wait status {status:#x}: {said}")

    def timed(self, argv):
        """Runs argv to its end and returns the milliseconds it took."""
        begin = time.perf_counter_ns()
        _, status = os.waitpid(self.spawn(argv), 0)
        end = time.perf_counter_ns()
        self.must_succeed(argv, status)
        return (end - begin) / 1e6


# Cases: each measures one runtime once and returns {column: value}.


def case_run(runtime):
    return {"run": runtime.timed(runtime.run_command())}


def case_version(runtime):
    return {"version": runtime.timed([runtime.path, "--version"])}


def gone(pidfd, runtime):
    """Waits for the end of a container, of which this process is the subreaper."""
    if not select.select([pidfd], [], [], 10)[0]:
        raise Failed(f"{runtime.name}: the container does not end")
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def opened(runtime):
    with open(runtime.pid_file, encoding="ascii") as file:
        return os.pidfd_open(int(file.read()))


def case_cycle(runtime):
    """As an engine does it: the runtime leaves after create, and this process, as
    subreaper, is told by the kernel when the container's init has ended."""
    name = runtime.fresh_id()
    try:
        create = runtime.timed(
            runtime.command("create", "--bundle", runtime.bundle("bundle"), "--pid-file", runtime.pid_file, name)
        )
        pidfd = opened(runtime)
        try:
            start = runtime.timed(runtime.command("start", name))
            begin = time.perf_counter_ns()
            gone(pidfd, runtime)
            end = time.perf_counter_ns()
        finally:
            os.close(pidfd)
        delete = runtime.timed(runtime.command("delete", name))
    except BaseException:
        runtime.end(name)
        raise
    stop = (end - begin) / 1e6
    return {"cycle": create + start + stop + delete, "create": create, "start": start, "stop": stop, "delete": delete}


def case_exec(runtime):
    """In a container that is there already; the floor enters one of the first runtime's."""
    owner = runtime.lender or runtime
    if owner.name == "floor":
        raise Failed("floor: enters the container of another runtime only")
    if owner.running is None:
        owner.running = owner.begin()
    if runtime.lender:
        with open(owner.pid_file, encoding="ascii") as file:
            return {"exec": runtime.timed([runtime.path, "exec", file.read().strip()])}
    return {"exec": runtime.timed(runtime.command("exec", runtime.running, "true"))}


def case_kill(runtime):
    name = runtime.begin()
    try:
        pidfd = opened(runtime)
        try:
            value = runtime.timed(runtime.command("kill", name, "KILL"))
            gone(pidfd, runtime)
        finally:
            os.close(pidfd)
    finally:
        runtime.end(name)
    return {"kill": value}


def case_sequence(runtime):
    """The time of a hundred containers, one after the other."""
    return {"sequence": sum(runtime.timed(runtime.run_command()) for _ in range(100))}


def case_parallel(runtime):
    """From the start of the first of fifty to the end of the last."""
    # By then the kernel's workers are done with the namespaces of the last fifty, whoever's they were.
    time.sleep(0.5)
    commands = []
    for _ in range(50):
        commands += [*runtime.run_command(), "--"]
    answer, theirs = os.pipe()
    try:
        # By a program that leaves the processors to them: what starts them here needs a twentieth of the time.
        argv = [runtime.crowd, str(theirs), *commands]
        os.set_inheritable(theirs, True)
        _, status = os.waitpid(runtime.spawn(argv), 0)
        runtime.must_succeed(argv[:3], status)
        return {"parallel": int(os.read(answer, 64)) / 1e6}
    finally:
        os.close(answer)
        os.close(theirs)


def case_profile(runtime):
    return {"profile": runtime.timed(runtime.run_command("profile"))}


def case_limited(runtime):
    return {"limited": runtime.timed(runtime.run_command("limited"))}


def case_memory(runtime):
    """The kernel keeps, for waited-for descendants, the largest peak of any one of them, and the sum of their faults."""
    report = runtime.errors + ".time"
    runtime.timed(["/usr/bin/time", "-f", "%M %R", "-o", report, *runtime.run_command()])
    with open(report, encoding="ascii") as file:
        memory, faults = file.read().split()
        return {"memory": float(memory), "page faults": float(faults)}


def starts_with(runtime, limit, program):
    kind = f"smallest-{runtime.name}"
    write_config(runtime.work, kind, args=[program], memory=limit)
    for _ in range(3):
        argv = runtime.run_command(kind)
        if os.waitpid(runtime.spawn(argv), 0)[1] != 0:
            runtime.end(argv[-1])
            return False
    return True


def smallest_limit(runtime, program):
    low, high = 0, 4096
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if starts_with(runtime, middle * 4096, program) else (middle, high)
    return high * 4.0


def case_smallest(runtime):
    """The smallest `memory.limit`, to 4 KiB, with which three containers out of three run a program."""
    return {"smallest": smallest_limit(runtime, "true"), "empty program": smallest_limit(runtime, "nothing")}


def case_thousand(runtime):
    """What one more container costs beside none and beside a thousand others of the same runtime; the floor's beside
    those of the first runtime."""
    owner = runtime.lender or runtime
    names = []
    measured = lambda: statistics.median(runtime.timed(runtime.run_command()) for _ in range(40))
    try:
        few = measured()
        for _ in range(1000):
            names.append(owner.begin())
        many = measured()
    finally:
        for name in names:
            owner.end(name)
    return {"thousand": many, "beside none": few}


def case_size(runtime):
    return {"size": os.path.getsize(runtime.path) / 1024}


def is_static(path):
    """Whether a 64-bit ELF file names no program interpreter."""
    with open(path, "rb") as file:
        header = file.read(64)
        offset = struct.unpack_from("<Q", header, 32)[0]
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from("<I", table, at)[0] != PT_INTERP for at in range(0, size * count, size))


# name: (function, share of --rounds, unit, what the table is headed with, runs on the floor)
CASES = {
    "run": (case_run, 1.0, "ms", "`run true`", True),
    "cycle": (case_cycle, 0.5, "ms", "create + start + delete", False),
    "exec": (case_exec, 0.5, "ms", "`exec true`", True),
    "kill": (case_kill, 0.2, "ms", "`kill`", False),
    "profile": (case_profile, 0.5, "ms", "`run true` with Docker's seccomp profile", False),
    "sequence": (case_sequence, 0.02, "ms", "100 × `run true`, in sequence", True),
    "parallel": (case_parallel, 0.2, "ms", "50 × `run true`, at once", True),
    "version": (case_version, 1.0, "ms", "`--version`", True),
    "memory": (case_memory, 0.1, "KiB", "peak memory of `run true`", True),
    "size": (case_size, 0.0, "KiB", "binary", False),
    "thousand": (case_thousand, 0.005, "ms", "`run true` beside 1,000 others", True),
    "limited": (case_limited, 0.5, "ms", "`run true` with a memory limit of 4 MiB", False),
    "smallest": (case_smallest, 0.02, "KiB", "smallest memory limit for `true`", False),
}
# What needs a memory controller, and so the cgroups that the machine has.
LIMITS = ["limited", "smallest"]


def measure(name, runtimes, rounds, pause):
    """Returns {runtime: {column: [values]}}; the first rounds only warm up."""
    function, share, _, _, on_floor = CASES[name]
    rounds = max(1, round(rounds * share))
    warm_up = min(5, rounds // 4)
    taking_part = [r for r in runtimes if on_floor or r.name != "floor"]
    values = {r.name: {} for r in taking_part}
    for turn in range(-warm_up, rounds):
        for runtime in random.sample(taking_part, len(taking_part)):
            time.sleep(pause / 1000)
            for column, value in function(runtime).items():
                if turn >= 0:
                    values[runtime.name].setdefault(column, []).append(value)
    for runtime in taking_part:
        if runtime.running is not None:
            runtime.end(runtime.running)
            runtime.running = None
    return values


def central(case, values):
    """The number that stands for a column: the median, but of peaks the largest."""
    return max(values) if case == "memory" else statistics.median(values)


def shown(case, value, column=None):
    if column == "page faults":
        return f"{value:,.0f}"
    return f"{value:.2f} ms" if CASES[case][2] == "ms" else f"{value:,.0f} KiB"


def print_report(results, reference):
    """One line for each runtime and column of each case."""
    rows = [("what", "runtime", "median", "min", f"/ {reference}", "n")]
    for case, by_runtime in results.items():
        for column in next(iter(by_runtime.values())):
            label = CASES[case][3].replace("`", "") if column == case else f"  {column}"
            base = central(case, by_runtime[reference][column]) if reference in by_runtime else None
            for runtime, columns in by_runtime.items():
                found = columns[column]
                middle = central(case, found)
                ratio = f"{middle / base:.2f}x" if base else ""
                rows.append((label, runtime, shown(case, middle, column), shown(case, min(found), column), ratio, str(len(found))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())


def print_markdown(results, runtimes, reference):
    """A column for each runtime, medians and how many times the reference they are."""
    print("| | " + " | ".join(r.name for r in runtimes) + " |\n|---|" + "--:|" * len(runtimes))
    for case, by_runtime in results.items():
        base = central(case, by_runtime[reference][case]) if reference in by_runtime else None
        cells = [CASES[case][3]]
        for runtime in runtimes:
            if runtime.name not in by_runtime:
                cells.append("")
                continue
            middle = central(case, by_runtime[runtime.name][case])
            ratio = f" ({middle / base:.2f}×)" if base and runtime.name != reference else ""
            cells.append(shown(case, middle) + ratio)
        print("| " + " | ".join(cells) + " |")


def write_config(work, kind, args=("true",), seccomp=None, memory=None):
    """A bundle of the shared root file system with the default spec, changed as asked."""
    with open(os.path.join(work, "bundle", "spec.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["root"]["path"] = os.path.join(work, "bundle", "rootfs")
    config["process"]["terminal"] = False
    config["process"]["args"] = list(args)
    if seccomp is not None:
        config["linux"]["seccomp"] = seccomp
    if memory is not None:
        config["linux"]["resources"]["memory"] = {"limit": memory}
    os.makedirs(os.path.join(work, kind), exist_ok=True)
    with open(os.path.join(work, kind, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


def write_bundles(work):
    """Turns what `runc spec` wrote into the bundles that all runtimes run."""
    os.rename(os.path.join(work, "bundle", "config.json"), os.path.join(work, "bundle", "spec.json"))
    write_config(work, "bundle")
    write_config(work, "sleeping", args=["sleep", "10000"])
    write_config(work, "limited", memory=4 << 20)
    profile = os.path.join(os.path.dirname(__file__), "..", "tests", "seccomp", "docker.json")
    with open(profile, encoding="utf-8") as file:
        write_config(work, "profile", seccomp=json.load(file))


def remove_leftovers():
    """Removes cgroups that a failed run of ours left, deepest first, and says so."""
    for at, _, _ in os.walk(CGROUPS, topdown=False):
        if PREFIX in at:
            print(f"bench: a runtime left {at} behind", file=sys.stderr)
            os.rmdir(at)


def version_line(runtime):
    said = subprocess.run([runtime.path, "--version"], capture_output=True, text=True, check=False).stdout
    kind = "static" if is_static(runtime.path) else "dynamic"
    return f"{said.splitlines()[0] if said else runtime.name} ({kind})"


def read_words(path):
    """The words of a file that only cgroup v2 has."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def main():
    parser = argparse.ArgumentParser(prog="hack/bench")
    parser.add_argument("case", nargs="?", default="all", choices=[*CASES, "all", "limits"])
    parser.add_argument("--rounds", type=int, default=200, help="rounds of `run`; the others take a share of it")
    parser.add_argument("--only", help="comma-separated names of the runtimes to time")
    parser.add_argument("--pause", type=float, default=0, metavar="MS", help="rest before each measurement")
    parser.add_argument("--markdown", action="store_true", help="print the table for the README")
    parser.add_argument("--work", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--crowd", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--runtime", action="append", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()

    given = dict(entry.split("=", 1) for entry in args.runtime)
    wanted = args.only.split(",") if args.only else list(given)
    for name in wanted:
        if name not in given or (args.only and not given[name]):
            parser.error(f"there is no binary of {name!r}")
    for name in set(wanted) - {n for n in wanted if given[n]}:
        print(f"bench: {name} is left out: it has no binary (build it, or set {name.upper()})", file=sys.stderr)
    runtimes = [Runtime(n, given[n], args.work, args.crowd) for n in wanted if given[n]]
    for runtime in runtimes[1:]:
        if runtime.name == "floor":
            runtime.lender = runtimes[0]
    write_bundles(args.work)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    control = os.path.join(CGROUPS, "cgroup.subtree_control")
    enabled = read_words(control)
    groups = {"all": [case for case in CASES if case not in LIMITS], "limits": LIMITS}
    results = {}
    try:
        for case in groups.get(args.case, [args.case]):
            values = measure(case, runtimes, args.rounds, args.pause)
            if values:
                results[case] = values
    except Failed as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
    finally:
        remove_leftovers()
        for controller in set(read_words(control)) - set(enabled):
            with open(control, "w", encoding="ascii") as file:
                file.write(f"-{controller}")
        for runtime in runtimes:
            shutil.rmtree(runtime.state, ignore_errors=True)
    where = os.uname()
    print(f"Linux {where.release}, {os.cpu_count()} CPUs; " + "; ".join(version_line(r) for r in runtimes) + "\n")
    if args.markdown:
        print_markdown(results, runtimes, runtimes[0].name)
    else:
        print_report(results, runtimes[0].name)


if __name__ == "__main__":
    main()
