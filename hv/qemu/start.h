/* What the files share that put a domain's processes together: start.c, firmware.c, tpm.c. */
#pragma once
#include "internal.h"

/* Descriptors for the child, numbered from 3 in the order of adding. */
struct handout {
    struct proc_fd *fds;
    size_t count;
    int *owned; /* opened here; closed when the child has them */
    size_t owned_count;
};
/* The number that it has in the child. `_owned`: moves. */
int handout_give(struct handout *h, int fd);
int handout_give_owned(struct handout *h, int fd);
void handout_done(struct handout *h);

/* ---- start.c: the command line of corral-launch ---- */
/* The launcher and as whom it runs what follows: the domain's user. `also`: a further group, 0: none. */
void launch_begin(const struct qemu_domain *d, gid_t also, char ***argv, size_t *argc);
void launch_add(char ***argv, size_t *argc, char *moved);
/* The number of a ruleset in the child; -1: there is none. */
void launch_add_ruleset(char ***argv, size_t *argc, int child);

/* ---- confined.c ---- */
/* What corral-launch and `program` (its path) may open: what every program needs, the folders of both, and
 * anew what the child is handed; `folder`: where it may make files; -1: nowhere. *ruleset: close-on-exec, the
 * caller's; -1 where the kernel has no Landlock. */
int confined_ruleset(const struct hv_driver_state *state, const char *program, const struct proc_fd *fds,
                     size_t fd_count, int folder, int *ruleset, struct hv_err *err);

/* ---- firmware.c ---- */
/* What the plan borrows. */
struct boot_words {
    char *cmdline;
};
void boot_words_done(struct boot_words *words);
/* Opens what the domain boots by: the flash images of UEFI, a kernel of the host or of the guest. */
int firmware_add(struct qemu_domain *d, const struct disk_chain *chains, struct handout *h,
                 struct qemu_plan_input *input, struct boot_words *words, struct hv_err *err);

/* ---- guest_kernel.c ---- */
struct guest_kernel {
    int kernel_fd, ramdisk_fd; /* memory; -1: no ramdisk */
    char *cmdline;
};
/* FORMAT with what was found, or not. Takes up to a minute. */
int guest_kernel_read(const struct qemu_domain *d, const struct domain_config *config,
                      const struct disk_chain *chains, struct guest_kernel *out, struct hv_err *err);

/* ---- tpm.c ---- */
/* Starts the process of its TPM, if it has one, and connects it. */
int tpm_add(struct qemu_domain *d, struct handout *h, struct qemu_plan_input *input, struct hv_err *err);
