/* first - the functions that a static program calls, in the order of their first calls.
 *
 *   nm PROGRAM | first OUT PROGRAM ARGS...
 *
 * Appends one symbol a line to OUT. There is a breakpoint at each function until it is called, in the program and
 * in what it clones, up to their next execve. For x86_64. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct function {
    unsigned long address;
    unsigned char byte;
    char seen;
    char *name;
};

static struct function *functions;
static size_t count;

static int by_address(const void *a, const void *b)
{
    const struct function *x = a, *y = b;
    return (x->address > y->address) - (x->address < y->address);
}

static void read_symbols(void)
{
    char line[4096], kind, name[4096], *name_of_all;
    unsigned long address;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%lx %c %4095s", &address, &kind, name) != 3 || !strchr("tTwW", kind))
            continue;
        functions = realloc(functions, (count + 1) * sizeof *functions);
        functions[count++] = (struct function){ .address = address, .name = strdup(name) };
    }
    qsort(functions, count, sizeof *functions, by_address);
    /* One of several names has the section that the linker is to place: all are written, a line each. */
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct function *last = kept ? &functions[kept - 1] : NULL;
        if (!last || last->address != functions[i].address) {
            functions[kept++] = functions[i];
        } else if (asprintf(&name_of_all, "%s\n%s", last->name, functions[i].name) > 0) {
            last->name = name_of_all;
        }
    }
    count = kept;
}

static void patch(pid_t pid, struct function *f, int set)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int mem = open(path, O_RDWR);
    unsigned char trap = 0xcc;
    for (struct function *g = f ? f : functions; g < (f ? f + 1 : functions + count); g++) {
        if (set && pread(mem, &g->byte, 1, g->address) != 1)
            continue;
        if (pwrite(mem, set ? &trap : &g->byte, 1, g->address) != 1 && !set)
            perror("first: a breakpoint stays");
    }
    close(mem);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return fprintf(stderr, "usage: nm PROGRAM | first OUT PROGRAM ARGS...\n"), 2;
    read_symbols();
    FILE *out = fopen(argv[1], "a");
    if (!out)
        return perror(argv[1]), 1;
    setvbuf(out, NULL, _IOLBF, 0);
    pid_t first = fork();
    if (!first) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[2], argv + 2);
        _exit(127);
    }
    int status;
    waitpid(first, &status, 0);
    long options = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    ptrace(PTRACE_SETOPTIONS, first, 0, options);
    patch(first, NULL, 1);
    ptrace(PTRACE_CONT, first, 0, 0);
    int end = 1;
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == first)
                end = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        if (!event && signal == SIGTRAP) {
            struct user_regs_struct regs;
            ptrace(PTRACE_GETREGS, pid, 0, &regs);
            struct function key = { .address = regs.rip - 1 };
            struct function *f = bsearch(&key, functions, count, sizeof *functions, by_address);
            if (f) {
                if (!f->seen)
                    fprintf(out, "%s\n", f->name);
                f->seen = 1;
                patch(pid, f, 0);
                regs.rip--;
                ptrace(PTRACE_SETREGS, pid, 0, &regs);
                signal = 0;
            }
        } else if (event || signal == SIGSTOP) {
            signal = 0;
        }
        ptrace(PTRACE_CONT, pid, 0, signal);
    }
    return fclose(out) ? 1 : end;
}
