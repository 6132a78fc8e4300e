/* Landlock (confine.h). Numbers that the C library's headers do not have yet are given here. */
#include <base/confine.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRUNCATE (1ULL << 14)  /* version 3 */
#define BIND_TCP 1ULL          /* version 4 */
#define IOCTL_DEV (1ULL << 15) /* version 5 */
#define SCOPE_SIGNAL 2ULL      /* version 6 */

struct attributes {
    uint64_t fs, net, scoped;
};

#define TO_RUN LANDLOCK_ACCESS_FS_EXECUTE
#define TO_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define TO_WRITE (LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE)
#define TO_CHANGE                                                                                            \
    (LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |         \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |              \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define OF_FILES (TO_RUN | LANDLOCK_ACCESS_FS_READ_FILE | TO_WRITE | IOCTL_DEV)

static const uint64_t rights[] = {
    [CONFINE_READ] = TO_RUN | TO_READ,
    [CONFINE_WRITE] = TO_READ | TO_WRITE,
    [CONFINE_FOLDER] = TO_READ | TO_WRITE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE,
    [CONFINE_TREE] = TO_READ | TO_WRITE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |
                     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
                     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                     LANDLOCK_ACCESS_FS_REFER,
    [CONFINE_SOCKET] = LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE,
    [CONFINE_DEVICE] = TO_READ | TO_WRITE | IOCTL_DEV,
};

int confine_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

/* All that this kernel knows of what is listed above. */
static uint64_t handled(int version)
{
    return TO_RUN | TO_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | TO_CHANGE |
           (version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0) | (version >= 3 ? TRUNCATE : 0) |
           (version >= 5 ? IOCTL_DEV : 0);
}

int confine_allow_fd(int ruleset, int fd, enum confine_access access)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -1;
    struct landlock_path_beneath_attr rule = {.parent_fd = fd,
                                              .allowed_access = rights[access] & handled(confine_version())};
    if (!S_ISDIR(st.st_mode))
        rule.allowed_access &= OF_FILES;
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0)
        return 0;
    return errno == EBADFD ? 0 : -1;
}

int confine_allow(int ruleset, const char *path, enum confine_access access)
{
    AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    return confine_allow_fd(ruleset, fd, access);
}

int confine_new(bool serves)
{
    static const struct {
        const char *path;
        enum confine_access access;
    } system[] = {
        {"/usr", CONFINE_READ},        {"/lib", CONFINE_READ},          {"/lib32", CONFINE_READ},
        {"/lib64", CONFINE_READ},      {"/bin", CONFINE_READ},          {"/etc", CONFINE_READ},
        {"/proc", CONFINE_READ},       {"/sys", CONFINE_READ},          {"/dev/null", CONFINE_DEVICE},
        {"/dev/zero", CONFINE_DEVICE}, {"/dev/random", CONFINE_DEVICE}, {"/dev/urandom", CONFINE_DEVICE},
    };
    int version = confine_version();
    if (version == 0) {
        errno = EOPNOTSUPP;
        return -1;
    }
    struct attributes attributes = {.fs = handled(version),
                                    .net = version >= 4 && !serves ? BIND_TCP : 0,
                                    .scoped = version >= 6 ? SCOPE_SIGNAL : 0};
    /* An older kernel takes what it does not know for an error, unless it is zero. */
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0);
    for (size_t i = 0; ruleset >= 0 && i < ARRAY_LEN(system); i++)
        if (confine_allow(ruleset, system[i].path, system[i].access) < 0) {
            int failure = errno;
            close(ruleset);
            errno = failure;
            return -1;
        }
    return ruleset;
}

int confine_self(int ruleset)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ? 0 : -1;
}
