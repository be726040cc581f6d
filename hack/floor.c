/* floor - what the kernel alone takes for a container: the least time a runtime can need.
 *
 *   floor run ROOTFS ID     runs /bin/true of ROOTFS as runtimes run hack/bench's bundle
 *   floor times ROOTFS ID   the same, and prints how long each step took
 *   floor exec PID          runs /bin/true in the container of a process, as `exec` does
 *   floor --version         says so: what starting any static program costs
 *
 * It makes the kernel calls that the default spec asks for, by the classic calls
 * (mount(2), pivot_root(2), one clone3(2)), in one process and its child, without
 * reading a configuration, keeping a state, checking anything or explaining what
 * went wrong.  It is a measuring rod, not a runtime.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The steps of both processes, on one clock, in memory that they share. */
struct record {
    const char *what;
    int64_t begin, end;
};
static struct {
    int count;
    struct record records[128];
} *steps;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(const char *what, int64_t begin, long result)
{
    if (result < 0) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(1);
    }
    if (steps && steps->count < 128)
        steps->records[steps->count++] = (struct record){what, begin, now()};
}

/* Makes one call, times it, and ends the process when it fails. */
#define STEP(what, call)                   \
    ({                                     \
        int64_t begin_ = steps ? now() : 0; \
        long result_ = (long)(call);       \
        note(what, begin_, result_);       \
        result_;                           \
    })

static void print_steps(void)
{
    int64_t first = steps->records[0].begin;
    for (int i = 0; i < steps->count; i++) {
        struct record *r = &steps->records[i];
        printf("%8.1f us  +%7.1f us  %s\n", (r->begin - first) / 1e3, (r->end - r->begin) / 1e3, r->what);
    }
    printf("%8.1f us  in all\n", (now() - first) / 1e3);
}

/* The device rules of the default spec as a program: mknod of everything, and what
 * any container may read and write.  The kernel takes some microseconds to verify and
 * compile each instruction, so a device is one number here and all share one exit. */
static int attach_devices(int cgroup)
{
    enum { R0, R1, R2, R4 = 4, R5 };
#define NUMBER(major, minor) ((major) << 20 | (minor))
#define LOAD(dst, off) {BPF_LDX | BPF_MEM | BPF_W, dst, R1, off, 0}
#define ALLOW(key, skip) {BPF_JMP | BPF_JEQ | BPF_K, R4, 0, skip, key}
#define ANSWER(value) {BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, value}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}
    struct bpf_insn program[] = {
        LOAD(R2, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
        LOAD(R4, offsetof(struct bpf_cgroup_dev_ctx, major)),
        LOAD(R5, offsetof(struct bpf_cgroup_dev_ctx, minor)),
        {BPF_JMP | BPF_JSET | BPF_K, R2, 0, 2, (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE) << 16},
        ANSWER(1),
        {BPF_ALU64 | BPF_LSH | BPF_K, R4, 0, 0, 20},
        {BPF_ALU64 | BPF_OR | BPF_X, R4, R5, 0, 0},
        ALLOW(NUMBER(1, 3), 10), ALLOW(NUMBER(1, 5), 9), ALLOW(NUMBER(1, 7), 8), ALLOW(NUMBER(1, 8), 7),
        ALLOW(NUMBER(1, 9), 6), ALLOW(NUMBER(5, 0), 5), ALLOW(NUMBER(5, 2), 4),
        {BPF_ALU64 | BPF_RSH | BPF_K, R4, 0, 0, 20},
        ALLOW(136, 2),
        ANSWER(0),
        ANSWER(1),
    };
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uintptr_t)program,
        .insn_cnt = sizeof program / sizeof *program,
        .license = (uintptr_t) "Apache-2.0",
    };
    int fd = STEP("bpf: load the device program", syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    union bpf_attr attach = {
        .target_fd = cgroup,
        .attach_bpf_fd = fd,
        .attach_type = BPF_CGROUP_DEVICE,
        .attach_flags = BPF_F_ALLOW_MULTI,
    };
    STEP("bpf: attach it", syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    return close(fd);
}

static int loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

static void mount_all(void)
{
    const unsigned long plain = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    mkdir("proc", 0755), mkdir("dev", 0755), mkdir("sys", 0755);
    STEP("mount proc", mount("proc", "proc", "proc", 0, 0));
    STEP("mount tmpfs at /dev", mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    mkdir("dev/pts", 0755), mkdir("dev/shm", 0755), mkdir("dev/mqueue", 0755);
    STEP("mount devpts", mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                               "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    STEP("mount tmpfs at /dev/shm", mount("shm", "dev/shm", "tmpfs", plain, "mode=1777,size=65536k"));
    STEP("mount mqueue", mount("mqueue", "dev/mqueue", "mqueue", plain, 0));
    STEP("mount sysfs", mount("sysfs", "sys", "sysfs", plain | MS_RDONLY, 0));
    STEP("mount cgroup2", mount("cgroup", "sys/fs/cgroup", "cgroup2", plain | MS_RELATIME | MS_RDONLY, 0));
}

static int make_devices(void)
{
    static const struct { const char *path; int major, minor; } devices[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    static const char *const links[][2] = {
        {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
        {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"}, {"pts/ptmx", "dev/ptmx"},
    };
    int failed = 0;
    umask(0);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        failed |= mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        failed |= symlink(links[i][0], links[i][1]);
    umask(022);
    return failed;
}

static int make_readonly(void)
{
    static const char *const paths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (mount(paths[i], paths[i], 0, MS_BIND | MS_REC, 0) < 0) {
            if (errno == ENOENT)
                continue;
            return -1;
        }
        if (mount(0, paths[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0) < 0)
            return -1;
    }
    return 0;
}

static int mask(void)
{
    static const char *const paths[] = {
        "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (mount("/dev/null", paths[i], 0, MS_BIND, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != ENOTDIR || mount("tmpfs", paths[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1") < 0)
            return -1;
    }
    return 0;
}

static int drop_privileges(void)
{
    const uint32_t kept = 1 << CAP_AUDIT_WRITE | 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{kept, kept, 0}, {0, 0, 0}};
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap > 31 || !(kept & 1u << cap))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    if (syscall(SYS_setgroups, 0, 0) || syscall(SYS_setresgid, 0, 0, 0) || syscall(SYS_setresuid, 0, 0, 0))
        return -1;
    return syscall(SYS_capset, &header, data) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -1 : 0;
}

/* The last steps of both kinds of process. */
static void execute(void)
{
    char *argv[] = {"true", 0}, *envp[] = {"PATH=/bin", "TERM=xterm", 0};
    struct rlimit files = {1024, 1024};
    STEP("rlimit", setrlimit(RLIMIT_NOFILE, &files));
    STEP("capabilities, ids, no_new_privs", drop_privileges());
    STEP("close_range", syscall(SYS_close_range, 3, ~0u, 1 << 2 /* CLOSE_RANGE_CLOEXEC */));
    STEP("until here the child", 0);
    execve("/bin/true", argv, envp);
    _exit(127);
}

/* A process that enters the namespaces and the cgroup of another. */
static int enter(const char *pid)
{
    char path[512], line[256] = "";
    snprintf(path, sizeof path, "/proc/%s/cgroup", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && strncmp(line, "0::", 3))
        ;
    if (!file || strncmp(line, "0::/", 4))
        return fprintf(stderr, "floor: no cgroup of %s\n", pid), 1;
    fclose(file);
    line[strcspn(line, "\n")] = 0;
    snprintf(path, sizeof path, "/sys/fs/cgroup%s", line + 3);
    int cgroup = STEP("open of the cgroup", open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int init = STEP("pidfd_open", syscall(SYS_pidfd_open, atoi(pid), 0));
    STEP("setns: pid", setns(init, CLONE_NEWPID));
    struct clone_args how = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = cgroup};
    pid_t child = STEP("clone3", syscall(SYS_clone3, &how, sizeof how));
    if (child == 0) {
        STEP("setns: the others", setns(init, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS));
        STEP("setsid", setsid());
        STEP("session keyring", syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
        execute();
    }
    int status;
    STEP("wait", waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* The container's first process, up to its program. */
static void inside(const char *rootfs)
{
    STEP("setsid", setsid());
    STEP("session keyring", syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor"));
    STEP("loopback up", loopback_up());
    STEP("propagation: /, recursively", mount(0, "/", 0, MS_SLAVE | MS_REC, 0));
    STEP("bind the rootfs to itself", mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0));
    STEP("chdir", chdir(rootfs));
    mount_all();
    STEP("devices and links", make_devices());
    STEP("pivot_root", syscall(SYS_pivot_root, ".", "."));
    STEP("propagation: old root", mount(0, ".", 0, MS_SLAVE | MS_REC, 0));
    STEP("umount2 of the old root", umount2(".", MNT_DETACH));
    STEP("chdir", chdir("/"));
    STEP("remount / read-only", mount(0, "/", 0, MS_BIND | MS_REMOUNT | MS_RDONLY, 0));
    STEP("sethostname", sethostname("floor", 5));
    STEP("readonlyPaths", make_readonly());
    STEP("maskedPaths", mask());
    execute();
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        puts("floor");
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "exec"))
        return enter(argv[2]);
    if (argc != 4 || (strcmp(argv[1], "run") && strcmp(argv[1], "times"))) {
        fprintf(stderr, "usage: floor run|times ROOTFS ID, floor exec PID\n");
        return 2;
    }
    if (!strcmp(argv[1], "times"))
        steps = mmap(0, sizeof *steps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char path[256];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", argv[3]);
    STEP("mkdir of the cgroup", mkdir(path, 0755));
    int cgroup = STEP("open of the cgroup", open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    attach_devices(cgroup);
    struct clone_args how = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
                 | CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup,
    };
    int64_t begin = now();
    pid_t child = syscall(SYS_clone3, &how, sizeof how);
    if (child == 0) {
        note("clone3, until the child runs", begin, 0);
        inside(argv[2]);
    }
    note("clone3, until the parent runs", begin, child);
    int status;
    STEP("wait, from clone3 to the child's end", waitpid(child, &status, 0));
    STEP("rmdir of the cgroup", rmdir(path));
    if (steps)
        print_steps();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
