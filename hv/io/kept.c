/* Files of what a VM's firmware writes down (kept.h). */
#include "kept.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/rc.h>
#include <base/secret.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/efivars.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define TPM_FILE "tpm2-00.permall"
#define KEPT_ATTRIBUTES 3 /* non-volatile, for boot services: how edk2 has SecureBootEnable */
#define ENABLE "SecureBootEnable"

static char *path_of(const char *state_dir, const char *uuid, const char *what)
{
    return xasprintf("%s/nvram/%s.%s", state_dir, uuid, what);
}

static int io(struct hv_err *err, const char *what)
{
    return hv_fail(err, errno == ENOSPC ? HV_ERR_KIND_NO_SPACE : HV_ERR_KIND_IO, "%s: %s", what,
                   strerror(errno));
}

static int remove_file(const char *path)
{
    return unlink(path) < 0 && errno != ENOENT ? -1 : 0;
}

/* ---- the TPM's folder ---- */

static int remove_folder(const char *path)
{
    DIR *list = opendir(path);
    if (!list)
        return errno == ENOENT ? 0 : -1;
    for (struct dirent *e; (e = readdir(list));)
        if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
            unlinkat(dirfd(list), e->d_name, 0);
    closedir(list);
    return rmdir(path);
}

static int open_folder(const char *path, struct hv_err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return io(err, "The folder of the domain's TPM cannot be made");
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? fd : io(err, "The folder of the domain's TPM cannot be opened");
}

/* A file that the TPM's process left: it owns the folder, so it may have put there what leads elsewhere. -1
 * with errno. */
static int open_left(int folder, const char *name)
{
    struct stat st;
    int fd = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return fd;
    if (fd >= 0) {
        close(fd);
        errno = EBADMSG;
    }
    return -1;
}

/* The domain that ran before had another user. */
static int give_folder(int folder, const struct kept_user *user)
{
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (!list) {
        if (copy >= 0)
            close(copy);
        return -1;
    }
    int outcome = 0;
    for (struct dirent *e; outcome == 0 && (e = readdir(list));) {
        if (streq(e->d_name, ".") || streq(e->d_name, ".."))
            continue;
        int fd AUTO_CLOSE = open_left(folder, e->d_name);
        outcome = fd >= 0 ? fchown(fd, user->uid, user->gid) : -1;
    }
    closedir(list);
    return outcome < 0 ? -1 : fchown(folder, user->uid, user->gid);
}

int kept_open_tpm(const char *state_dir, const char *uuid, const struct kept_user *user, struct hv_err *err)
{
    char *path AUTO_FREE = path_of(state_dir, uuid, "tpm");
    int fd = open_folder(path, err);
    if (fd < 0 || user->uid == (uid_t)-1 || give_folder(fd, user) == 0)
        return fd;
    io(err, "The folder of the domain's TPM cannot be given to its process");
    close(fd);
    return -1;
}

static int put_tpm(const char *state_dir, const char *uuid, const char *text, struct hv_err *err)
{
    char *path AUTO_FREE = path_of(state_dir, uuid, "tpm");
    if (remove_folder(path) < 0)
        return io(err, "The contents of the domain's TPM cannot be replaced");
    if (!*text)
        return 0;
    size_t len;
    char *bytes AUTO_FREE =
        strlen(text) <= KEPT_TPM_MAX / 3 * 4 ? base64_decode(text, strlen(text), &len) : NULL;
    if (!bytes)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The contents of the TPM are not base64, or too long.");
    int folder AUTO_CLOSE = open_folder(path, err);
    if (folder < 0)
        return -1;
    int fd AUTO_CLOSE = openat(folder, TPM_FILE, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool written = fd >= 0 && write(fd, bytes, len) == (ssize_t)len && fsync(fd) == 0;
    secret_wipe(bytes, len);
    return written ? 0 : io(err, "The contents of the domain's TPM cannot be written");
}

/* ---- giving and taking ---- */

int kept_put(const char *state_dir, const char *uuid, const char *variables, const char *tpm,
             struct hv_err *err)
{
    if (strlen(variables) > EFI_VARS_TEXT_MAX)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The UEFI variables are too long.");
    char *vars AUTO_FREE = path_of(state_dir, uuid, "vars");
    if (put_tpm(state_dir, uuid, tpm, err) < 0)
        return -1;
    if (file_write_atomic(vars, variables, strlen(variables), 0600) < 0)
        return io(err, "The domain's UEFI variables cannot be written");
    return 0;
}

/* NULL with errno: it cannot be read; "" with ENOENT: there is none. */
static char *flash_text(const char *path)
{
    size_t len;
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT;
    char *flash AUTO_FREE = file_read(path, EFI_FLASH_MAX, &len);
    if (!flash)
        return NULL;
    if (efi_flash_read(flash, len, &vars) < 0) {
        errno = EBADMSG;
        return NULL;
    }
    efi_vars_remove(&vars, EFI_VENDOR_SECURE_BOOT_ENABLE, ENABLE); /* follows from the configuration */
    return efi_vars_write_text(&vars);
}

static char *tpm_text(const char *state_dir, const char *uuid)
{
    char *path AUTO_FREE = path_of(state_dir, uuid, "tpm");
    int folder AUTO_CLOSE = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    int fd AUTO_CLOSE = folder >= 0 ? open_left(folder, TPM_FILE) : -1;
    if (fd < 0)
        return NULL;
    size_t len;
    char *bytes AUTO_FREE = file_read_fd(fd, KEPT_TPM_MAX, &len);
    if (!bytes)
        return NULL;
    char *text = base64_encode(bytes, len);
    secret_wipe(bytes, len);
    return text;
}

int kept_get(const char *state_dir, const char *uuid, const char **variables, const char **tpm,
             struct hv_err *err)
{
    char *vars AUTO_FREE = path_of(state_dir, uuid, "vars");
    char *flash AUTO_FREE = path_of(state_dir, uuid, "fd");
    char *text AUTO_FREE = file_read(vars, EFI_VARS_TEXT_MAX, NULL);
    if (!text && errno != ENOENT)
        return io(err, "The domain's UEFI variables cannot be read");
    bool given = text != NULL;
    if (!text && !(text = flash_text(flash)) && errno != ENOENT)
        return io(err, "The domain's UEFI variables cannot be read");
    char *contents AUTO_SECRET = tpm_text(state_dir, uuid);
    if (!contents && errno != ENOENT)
        return io(err, "The contents of the domain's TPM cannot be read");
    if (!text && !contents && !given)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The host keeps nothing of this VM.");
    str_assign(variables, text ? text : "");
    str_assign(tpm, contents ? contents : "");
    return 0;
}

/* Nanoseconds of the last change; 0: no such file. */
static long long changed(const char *state_dir, const char *uuid, const char *what)
{
    struct stat st;
    char *path AUTO_FREE = path_of(state_dir, uuid, what);
    return stat(path, &st) < 0 ? 0 : st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
}

void kept_mark(const char *state_dir, const char *uuid, char out[static KEPT_MARK_SIZE])
{
    long long flash = changed(state_dir, uuid, "fd");
    long long tpm = changed(state_dir, uuid, "tpm/" TPM_FILE);
    if (flash || tpm)
        snprintf(out, KEPT_MARK_SIZE, "%llx-%llx", flash, tpm);
    else
        out[0] = '\0';
}

int kept_remove(const char *state_dir, const char *uuid, struct hv_err *err)
{
    char *vars AUTO_FREE = path_of(state_dir, uuid, "vars");
    char *flash AUTO_FREE = path_of(state_dir, uuid, "fd");
    char *tpm AUTO_FREE = path_of(state_dir, uuid, "tpm");
    if (remove_file(vars) < 0 || remove_file(flash) < 0 || remove_folder(tpm) < 0)
        return io(err, "What the host keeps of the VM cannot be removed");
    return 0;
}

/* ---- flash images ---- */

static int read_flash(const char *path, struct efi_vars *vars)
{
    size_t len;
    char *flash AUTO_FREE = file_read(path, EFI_FLASH_MAX, &len);
    return flash ? efi_flash_read(flash, len, vars) : -1;
}

int kept_keys(const char *flash, const char **variables, struct hv_err *err)
{
    struct efi_vars all AUTO_EFI_VARS = EFI_VARS_INIT, keys AUTO_EFI_VARS = EFI_VARS_INIT;
    if (!flash || read_flash(flash, &all) < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The host's firmware has no Secure Boot keys.");
    efi_vars_set_keys(&keys, &all);
    if (keys.count == 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The host's firmware has no Secure Boot keys.");
    char *text AUTO_FREE = efi_vars_write_text(&keys);
    str_assign(variables, text);
    return 0;
}

/* `given`: the text of the pool; "" or NULL: the VM never ran. */
static int make_flash(const char *path, const char *uuid, const char *given, const char *template,
                      const char *keys, bool secure, struct hv_err *err)
{
    static const uint8_t no_time[EFI_TIME_SIZE] = {0};
    struct efi_vars vars AUTO_EFI_VARS = EFI_VARS_INIT, shipped AUTO_EFI_VARS = EFI_VARS_INIT;
    size_t len;
    char *empty AUTO_FREE = file_read(template, EFI_FLASH_MAX, &len);
    if (!empty)
        return io(err, "The template of UEFI variables cannot be read");
    bool first = !given || !*given;
    if (!first && efi_vars_read_text(given, &vars) < 0)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT,
                       "NVRAM:EFI-variables of the VM is not a list of UEFI variables; remove it to start "
                       "with those that the firmware is shipped with.");
    if (first && efi_flash_read(empty, len, &vars) < 0)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The template of UEFI variables has no variable store.");
    if (first && keys && read_flash(keys, &shipped) == 0)
        efi_vars_set_keys(&vars, &shipped);
    efi_vars_remove(&vars, EFI_VENDOR_SECURE_BOOT_ENABLE, ENABLE);
    if (efi_vars_find(&vars, EFI_VENDOR_GLOBAL, "PK"))
        efi_vars_put(&vars, EFI_VENDOR_SECURE_BOOT_ENABLE, ENABLE, KEPT_ATTRIBUTES, no_time,
                     secure ? "\1" : "\0", 1);
    char *flash AUTO_FREE = efi_flash_make(empty, len, &vars);
    if (!flash)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The UEFI variables of the VM do not fit into the firmware's store.");
    if (file_write_atomic(path, flash, len, 0600) < 0)
        return io(err, "The domain's UEFI variables cannot be written");
    log_debug("kept", "UEFI variables were put together", "domain", uuid);
    return 0;
}

int kept_open_flash(const char *state_dir, const char *uuid, const char *template, const char *keys,
                    bool secure, struct hv_err *err)
{
    char *vars AUTO_FREE = path_of(state_dir, uuid, "vars");
    char *flash AUTO_FREE = path_of(state_dir, uuid, "fd");
    char *given AUTO_FREE = file_read(vars, EFI_VARS_TEXT_MAX, NULL);
    if (!given && errno != ENOENT)
        return io(err, "The domain's UEFI variables cannot be read");
    if (given || access(flash, F_OK) < 0) {
        if (make_flash(flash, uuid, given, template, keys, secure, err) < 0)
            return -1;
        if (remove_file(vars) < 0)
            return io(err, "The domain's UEFI variables cannot be replaced");
    }
    int fd = open(flash, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? fd : io(err, "The domain's UEFI variables cannot be opened");
}
