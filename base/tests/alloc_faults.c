#include "alloc_faults.h"
#include <base/file.h>
#include <base/mem.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define LEAKS() __lsan_do_recoverable_leak_check()
#else
#define LEAKS() 0
#endif

/* With CORRAL_BRANCHES, what the process has run is noted at its end, which _exit leaves out. */
#ifdef COUNT_BRANCHES
void __gcov_dump(void);
#define NOTE_BRANCHES() __gcov_dump()
#else
#define NOTE_BRANCHES() ((void)0)
#endif

#define LIMIT_S 60 /* of one scenario */
#define EXIT_LEAK 71
#define EXIT_WRONG 72
#define EXIT_DONE 73
#define EARLY 30 /* the first ones are all tried */

static _Atomic size_t refused_from; /* bytes; 0: none */
static _Atomic long countdown;      /* the allocation that fails is so many away; 0: none */

static bool fails(size_t size)
{
    if (refused_from && size >= refused_from)
        return true;
    return countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

/* ---- where the linker leads (--wrap) ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
int __real_vasprintf(char **out, const char *format, va_list ap);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
int __wrap_vasprintf(char **out, const char *format, va_list ap);

void *__wrap_malloc(size_t size)
{
    return fails(size) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(count * size) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails(size) ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
    return fails(strlen(s) + 1) ? NULL : __real_strdup(s);
}

int __wrap_vasprintf(char **out, const char *format, va_list ap)
{
    return fails(1) ? -1 : __real_vasprintf(out, format, ap);
}

/* ---- SQLite, a library that the linker does not see into ---- */

static sqlite3_mem_methods sqlite_own;

static void *sqlite_malloc(int size)
{
    return fails((size_t)size) ? NULL : sqlite_own.xMalloc(size);
}

static void *sqlite_realloc(void *p, int size)
{
    return fails((size_t)size) ? NULL : sqlite_own.xRealloc(p, size);
}

__attribute__((constructor)) static void take_sqlite(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_own);
    sqlite3_mem_methods mine = sqlite_own;
    mine.xMalloc = sqlite_malloc;
    mine.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &mine);
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); /* small ones would come from one that was made before */
}

void alloc_faults_from(size_t bytes)
{
    refused_from = bytes;
}

/* ---- one in a process of its own ---- */

static _Noreturn void child(int (*scenario)(void *arg), void *arg, long nth, int err_fd)
{
    dup2(err_fd, STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    alarm(LIMIT_S);
    sqlite3_initialize();
    countdown = nth;
    int rc = scenario(arg);
    bool done = countdown > 0;
    countdown = 0;
    if (rc != 0)
        _exit(EXIT_WRONG);
    NOTE_BRANCHES();
    if (LEAKS())
        _exit(EXIT_LEAK);
    _exit(done ? EXIT_DONE : 0);
}

static enum alloc_outcome judge(int status, const char *words)
{
    bool clean = !strstr(words, "Sanitizer") && !strstr(words, "runtime error");
    if (WIFEXITED(status) && clean && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_DONE))
        return WEXITSTATUS(status) ? ALLOC_DONE : ALLOC_TOLD;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && clean &&
        strstr(words, "fatal: out of memory\n"))
        return ALLOC_ENDED;
    return ALLOC_BROKEN;
}

enum alloc_outcome alloc_faults_run(int (*scenario)(void *arg), void *arg, long nth)
{
    AUTO_CLOSE int err_fd = memfd_create("stderr", MFD_CLOEXEC);
    pid_t pid = fork();
    if (pid == 0)
        child(scenario, arg, nth, err_fd);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return ALLOC_BROKEN;
    lseek(err_fd, 0, SEEK_SET);
    AUTO_FREE char *words = file_read_fd(err_fd, 1 << 20, NULL);
    enum alloc_outcome outcome = judge(status, words ? words : "Sanitizer: too many words");
    if (outcome == ALLOC_BROKEN)
        fprintf(stderr, "allocation %ld: status %#x (exit %d)\n%.4000s\n", nth, (unsigned)status,
                WIFEXITED(status) ? WEXITSTATUS(status) : -1, words ? words : "");
    return outcome;
}

bool alloc_faults_each(int (*scenario)(void *arg), bool (*check)(void *arg, enum alloc_outcome outcome),
                       void *arg, size_t *told, size_t *ended)
{
    const char *wanted = getenv("CORRAL_ALLOCATIONS");
    bool all = wanted && streq(wanted, "all"), right = true;
    *told = *ended = 0;
    for (long nth = 1;; nth += all || nth < EARLY ? 1 : nth / 8) {
        enum alloc_outcome outcome = alloc_faults_run(scenario, arg, nth);
        *told += outcome == ALLOC_TOLD;
        *ended += outcome == ALLOC_ENDED;
        right &= outcome != ALLOC_BROKEN;
        if (check && !check(arg, outcome)) {
            fprintf(stderr, "allocation %ld: what is left is not right\n", nth);
            right = false;
        }
        if (outcome == ALLOC_DONE)
            return right;
    }
}
