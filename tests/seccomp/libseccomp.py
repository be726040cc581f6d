"""Compiles OCI seccomp profiles with libseccomp as runc does, for the tests to compare with.

Reads one JSON object per line: {"native": ARCH, "profile": the `linux.seccomp` of a config.json}, and answers each with one:
{"program": [[code, jt, jf, k], ...]} or {"error": errno or why}, besides "newest": {ARCH: number}, "unknown": [names], "model":
the rules by number, and "default": the default action. {"names": [ARCH, ...]}
is answered with {"names": the system calls that libseccomp knows on one of them}. {"native": ARCH, "seconds": profile} is answered with how long libseccomp takes for it. The first line of output is libseccomp's version. LIBSECCOMP names another library than the system's.
"""

import ctypes
import functools
import json
import os
import signal
import struct
import sys
import tempfile
import time

lib = ctypes.CDLL(os.environ.get("LIBSECCOMP", "libseccomp.so.2"), use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p
lib.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
libc = ctypes.CDLL(None)

TOKENS = {
    "X86_64": 0xC000003E, "X32": 0x4000003E, "X86": 0x40000003, "AARCH64": 0xC00000B7, "ARM": 0x40000028, "RISCV64": 0xC00000F3,
    "LOONGARCH64": 0xC0000102, "MIPS": 0x8, "MIPSEL": 0x40000008, "MIPS64": 0x80000008, "MIPSEL64": 0xC0000008,
    "MIPS64N32": 0xA0000008, "MIPSEL64N32": 0xE0000008, "PPC": 0x14, "PPC64": 0x80000015, "PPC64LE": 0xC0000015,
    "S390": 0x16, "S390X": 0x80000016,
}
BIG = {"MIPS", "MIPS64", "MIPS64N32", "PPC", "PPC64", "S390", "S390X"}
OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ACTIONS = {
    "KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "NOTIFY": 0x7FC00000, "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000, "ERRNO": 0x50000, "TRACE": 0x7FF00000,
}
ERROR, EEXIST = -1, 17
OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def action(name, errno):
    word = ACTIONS[name.removeprefix("SCMP_ACT_")]
    return word | (1 if errno is None else errno) if word in (0x50000, 0x7FF00000) else word


def short(arch):
    return arch.removeprefix("SCMP_ARCH_")


def number_on(arch, name):
    return ctypes.c_int(lib.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(TOKENS[arch]), name.encode())).value


def architectures(native, profile):
    listed = [short(arch) for arch in profile.get("architectures") or []]
    return [native] + [arch for arch in dict.fromkeys(listed) if arch != native]


class Failed(Exception):
    pass


def check(result):
    if result < 0 and result != -EEXIST:
        raise Failed(-result)


def compile(native, profile):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
    try:
        archs = architectures(native, profile)
        if "X86_64" not in archs:
            check(lib.seccomp_arch_remove(context, ctypes.c_uint32(TOKENS["X86_64"])))
        for arch in archs:
            check(lib.seccomp_arch_add(context, ctypes.c_uint32(TOKENS[arch])))
        calls = [(call, name) for call in profile.get("syscalls") or [] for name in call["names"]]
        if len(calls) > 32:
            check(lib.seccomp_attr_set(context, OPTIMIZE, ctypes.c_uint32(2)))
        answers = {default, ACTIONS["KILL"]}
        for call, name in calls:
            answer = action(call["action"], call.get("errnoRet"))
            answers.add(answer)
            number = ctypes.c_int(lib.seccomp_syscall_resolve_name(name.encode())).value
            if number != ERROR and answer != default:
                add(context, answer, number, call.get("args") or [])
        return {"program": export(context, native, answers)}
    finally:
        lib.seccomp_release(context)


def add(context, answer, number, args):
    conditions = [
        Comparison(arg["index"], OPERATORS[arg["op"].removeprefix("SCMP_CMP_")], arg["value"], arg.get("valueTwo") or 0)
        for arg in args
    ]
    indices = [condition.arg for condition in conditions]
    rules = [conditions] if len(set(indices)) == len(indices) else [[condition] for condition in conditions]
    for rule in rules:
        array = (Comparison * len(rule))(*rule)
        result = lib.seccomp_rule_add_array(context, ctypes.c_uint32(answer), number, len(rule), array)
        if result < 0:
            raise Failed(-result)


def export(context, native, answers):
    with tempfile.TemporaryFile() as file:
        check(lib.seccomp_export_bpf(context, file.fileno()))
        file.seek(0)
        program = file.read()
    if native not in BIG:
        return list(struct.iter_unpack("<HBBI", program))
    # Here, for a machine of the other byte order, libseccomp swaps the value of some returns twice.
    swapped = {int.from_bytes(answer.to_bytes(4, "big"), "little"): answer for answer in answers}
    return [
        (code, jt, jf, swapped.get(k, k) if code == 6 and k not in answers else k)
        for code, jt, jf, k in struct.iter_unpack(">HBBI", program)
    ]


@functools.cache
def numbers_by_name(arch):
    """The system calls that libseccomp knows on an architecture, by the numbers of their own."""
    found = {}
    first = {"MIPS": 4000, "MIPSEL": 4000, "MIPS64": 5000, "MIPSEL64": 5000, "MIPS64N32": 6000, "MIPSEL64N32": 6000, "X32": 0x40000000}
    for base in (first.get(arch, 0), 0xF0000):
        for number in range(base, base + 600):
            pointer = lib.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(TOKENS[arch]), number)
            if pointer:
                found.setdefault(ctypes.string_at(pointer).decode(), number)
                libc.free(ctypes.c_void_p(pointer))
    return found


def names(archs):
    return sorted(set().union(*(numbers_by_name(arch) for arch in archs)))


def model(profile, archs):
    """The profile's rules by architecture and number, as [number, action, [conditions]]: for an evaluation of its own."""
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = {}
    for arch in archs:
        here = rules["SCMP_ARCH_" + arch] = []
        for call in profile.get("syscalls") or []:
            answer = action(call["action"], call.get("errnoRet"))
            if answer == default:
                continue
            args = [[arg["index"], arg["op"], arg["value"], arg.get("valueTwo") or 0] for arg in call.get("args") or []]
            several = len({arg[0] for arg in args}) < len(args)
            for name in call["names"]:
                for conditions in [[arg] for arg in args] if several else [args]:
                    number = numbers_by_name(arch).get(name)
                    if number is not None:
                        here.append([number, answer, conditions])
                    pseudo = number_on(arch, name)
                    multiplexer = number_on(arch, "socketcall" if pseudo > -200 else "ipc")
                    if -300 < pseudo < -100 and multiplexer > 0:
                        others = [condition for condition in conditions if condition[0] != 0]
                        chosen = [0, "SCMP_CMP_EQ", -pseudo % 100, 0]
                        here.append([multiplexer, answer, [chosen] + others])
    return rules


def answer(request):
    if "seconds" in request:
        return {"seconds": seconds(short(request["native"]), request["seconds"])}
    if "names" in request:
        return {"names": names([short(arch) for arch in request["names"]])}
    native, profile = short(request["native"]), request["profile"]
    archs = architectures(native, profile)
    called = [name for call in profile.get("syscalls") or [] for name in call["names"]]
    newest = {"SCMP_ARCH_" + arch: max([0] + [number_on(arch, name) for name in called]) for arch in archs}
    about = {
        "newest": {arch: number for arch, number in newest.items() if number > 0},
        "unknown": [name for name in called if number_on("X86_64", name) == ERROR],
        "model": model(profile, archs),
        "default": action(profile["defaultAction"], profile.get("defaultErrnoRet")),
    }
    return about | with_patience(lambda: compile(native, profile))


def with_patience(work):
    """libseccomp loops without end, or crashes, over some sets of rules for one call: then the error is TIMEOUT or CRASH."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        try:
            result = work()
        except Failed as failed:
            result = {"error": failed.args[0]}
        with open(writer, "w") as pipe:
            json.dump(result, pipe)
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        result = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status == 0:
        return json.loads(result)
    return {"error": "TIMEOUT" if os.WTERMSIG(status) == signal.SIGALRM else "CRASH"}


def seconds(native, profile):
    """The shortest time that libseccomp takes for a profile, without what calling it from Python takes."""
    calls = sum(len(call["names"]) for call in profile["syscalls"])
    best = empty = 1e9
    for _ in range(20):
        start = time.perf_counter()
        compile(native, profile)
        best = min(best, time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(2 * calls):
            lib.seccomp_api_get()
        empty = min(empty, time.perf_counter() - start)
    return best - empty


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]


lib.seccomp_version.restype = ctypes.POINTER(Version)
version = lib.seccomp_version().contents
print(f"{version.major}.{version.minor}.{version.micro}", flush=True)
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
