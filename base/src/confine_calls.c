/* The seccomp filter of the daemons: what neither they nor anything that they start needs. Programs that work
 * on what guests have written have narrower ones of their own. */
#include <base/confine.h>
#include <base/mem.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define FOREIGN 0x40000000U /* x32: other numbers for the same calls */
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define FOREIGN UINT32_MAX
#endif

#ifdef ARCH
static const int of_host[] = {
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
    SYS_bpf,
    SYS_perf_event_open,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_pivot_root,
    SYS_open_by_handle_at,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
#ifdef SYS_iopl
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
#ifndef __SANITIZE_ADDRESS__ /* its search for leaks looks at its own threads */
    SYS_ptrace,
#endif
};
static const int of_server[] = {
    SYS_mount,         SYS_umount2,       SYS_move_mount,  SYS_open_tree,      SYS_fsopen,
    SYS_fsmount,       SYS_chroot,        SYS_setns,       SYS_unshare,        SYS_settimeofday,
    SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,    SYS_reboot,         SYS_sethostname,
    SYS_setdomainname, SYS_quotactl,      SYS_userfaultfd, SYS_io_uring_setup,
};

#define HEAD 5
#define LONGEST (HEAD + ARRAY_LEN(of_host) + ARRAY_LEN(of_server) + 2)

int confine_calls(enum confine_calls level)
{
    struct sock_filter filter[LONGEST];
    size_t refused = ARRAY_LEN(of_host) + (level == CONFINE_SERVER ? ARRAY_LEN(of_server) : 0);
    const struct sock_filter head[HEAD] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FOREIGN, (__u8)(refused + 1), 0),
    };
    memcpy(filter, head, sizeof(head));
    for (size_t i = 0; i < refused; i++) {
        int call = i < ARRAY_LEN(of_host) ? of_host[i] : of_server[i - ARRAY_LEN(of_host)];
        filter[HEAD + i] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (__u32)call, (__u8)(refused - i), 0);
    }
    filter[HEAD + refused] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[HEAD + refused + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    const struct sock_fprog program = {(unsigned short)(HEAD + refused + 2), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
#else
int confine_calls(enum confine_calls level)
{
    (void)level;
    errno = EOPNOTSUPP;
    return -1;
}
#endif
