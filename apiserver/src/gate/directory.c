/* PAM is asked with one handle a check, so modules share nothing. The conversation gives the password to each
 * hidden question and refuses any other: nobody is there to answer. */
#include "directory.h"

#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <security/pam_appl.h>
#include <stdio.h>
#include <unistd.h>

#define SYSTEM_DIR "/etc/pam.d"
#define USER_SID "pam-user:"
#define GROUP_SID "pam-group:"
#define NAME_BYTES_MAX 256
#define NSS_BYTES_MAX (1024 * 1024)
#define GROUPS_MAX 65536

bool directory_enabled(const struct server *server, const struct snapshot *snap)
{
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct host_row *host = pool ? host_row(snapshot_get(snap, CLASS_host, pool->master)) : NULL;
    return host && streq(host->external_auth_type, DIRECTORY_TYPE);
}

void directory_host_joined(const struct server *server, struct tx *tx, struct ref host)
{
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, server->pool_ref));
    const struct host_row *first = pool ? host_row(tx_get(tx, CLASS_host, pool->master)) : NULL;
    if (!first || !*first->external_auth_type)
        return;
    struct host_row *row = host_row_mut(tx_edit(tx, CLASS_host, host));
    str_assign(&row->external_auth_type, first->external_auth_type);
    str_assign(&row->external_auth_service_name, first->external_auth_service_name);
}

bool directory_ready(const char *pam_dir, char why[static 256])
{
    AUTO_FREE char *path = xasprintf("%s/" DIRECTORY_SERVICE, pam_dir ? pam_dir : SYSTEM_DIR);
    if (access(path, R_OK) == 0)
        return true;
    snprintf(why, 256,
             "the server cannot read PAM's service file " DIRECTORY_SERVICE
             " (of /etc/pam.d or --pam-dir): write one that says how users of the pool are checked (%s)",
             strerror(errno));
    return false;
}

/* ---- passwords ---- */

static void drop_answers(struct pam_response *answers, int count)
{
    for (int i = 0; i < count; i++)
        secret_free_cleanup(&answers[i].resp);
    free(answers);
}

static int converse(int count, const struct pam_message **questions, struct pam_response **out, void *arg)
{
    if (count <= 0 || count > PAM_MAX_NUM_MSG)
        return PAM_CONV_ERR;
    struct pam_response *answers = xcalloc((size_t)count, sizeof(*answers));
    for (int i = 0; i < count; i++)
        switch (questions[i]->msg_style) {
        case PAM_PROMPT_ECHO_OFF:
            answers[i].resp = xstrdup(arg);
            break;
        case PAM_ERROR_MSG:
        case PAM_TEXT_INFO:
            break;
        default:
            drop_answers(answers, count);
            return PAM_CONV_ERR;
        }
    *out = answers;
    return PAM_SUCCESS;
}

/* The brake holds back answers; a module that sleeps would hold a worker. */
static void no_delay(int status, unsigned usec, void *arg)
{
    (void)status;
    (void)usec;
    (void)arg;
}

/* Modules hand names to programs and files. */
static bool is_plain_name(const char *name)
{
    if (!*name || *name == '-' || strlen(name) >= NAME_BYTES_MAX)
        return false;
    for (; *name; name++)
        if (iscntrl((unsigned char)*name) || strchr("/:,\\", *name))
            return false;
    return true;
}

static int authenticate(pam_handle_t *pam, const char *peer)
{
    const void *delay = (const void *)&no_delay;
    int rc = pam_set_item(pam, PAM_RHOST, peer);
    if (rc == PAM_SUCCESS)
        rc = pam_set_item(pam, PAM_FAIL_DELAY, delay);
    if (rc == PAM_SUCCESS)
        rc = pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    if (rc == PAM_SUCCESS)
        rc = pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    return rc;
}

static enum directory_answer answer_of(int rc)
{
    switch (rc) {
    case PAM_SUCCESS:
        return DIRECTORY_RIGHT;
    case PAM_AUTH_ERR:
    case PAM_USER_UNKNOWN:
    case PAM_MAXTRIES:
    case PAM_ACCT_EXPIRED:
    case PAM_NEW_AUTHTOK_REQD:
    case PAM_PERM_DENIED:
    case PAM_CRED_INSUFFICIENT:
    case PAM_CRED_EXPIRED:
    case PAM_AUTHTOK_EXPIRED:
        return DIRECTORY_WRONG;
    default:
        return DIRECTORY_BROKEN;
    }
}

static char *settled_name(pam_handle_t *pam)
{
    const void *item = NULL;
    if (pam_get_item(pam, PAM_USER, &item) != PAM_SUCCESS || !item || !is_plain_name(item))
        return NULL;
    return xstrdup(item);
}

enum directory_answer directory_check(const char *pam_dir, const char *peer, const char *user,
                                      const char *password, char **name)
{
    char why[256];
    pam_handle_t *pam = NULL;
    AUTO_SECRET char *copy = xstrdup(password);
    const struct pam_conv conversation = {.conv = converse, .appdata_ptr = copy};
    if (!is_plain_name(user) || !*password)
        return DIRECTORY_WRONG;
    if (!directory_ready(pam_dir, why)) { /* PAM would take the file "other" */
        log_error("auth", why);
        return DIRECTORY_BROKEN;
    }
    int rc = pam_dir ? pam_start_confdir(DIRECTORY_SERVICE, user, &conversation, pam_dir, &pam)
                     : pam_start(DIRECTORY_SERVICE, user, &conversation, &pam);
    if (rc != PAM_SUCCESS) {
        log_error("auth", "PAM could not be started", "cause", pam_strerror(pam, rc));
        return DIRECTORY_BROKEN;
    }
    rc = authenticate(pam, peer);
    enum directory_answer answer = answer_of(rc);
    char *settled = answer == DIRECTORY_RIGHT ? settled_name(pam) : NULL;
    if (answer == DIRECTORY_BROKEN)
        log_error("auth", "PAM gave no answer", "cause", pam_strerror(pam, rc));
    pam_end(pam, rc);
    if (answer == DIRECTORY_RIGHT && !settled)
        return DIRECTORY_WRONG;
    if (settled)
        *name = settled;
    return answer;
}

/* ---- names ---- */

struct nss_user {
    struct passwd entry;
    char *memory;
};
struct nss_group {
    struct group entry;
    char *memory;
};

static bool find_user(const char *name, struct nss_user *out)
{
    struct passwd *found = NULL;
    size_t size = 1024;
    char *memory = NULL;
    int rc;
    do {
        size *= 2;
        memory = xreallocarray(memory, size, 1);
        rc = getpwnam_r(name, &out->entry, memory, size, &found);
    } while (rc == ERANGE && size < NSS_BYTES_MAX);
    out->memory = memory;
    if (found)
        return true;
    free(memory);
    return false;
}

static bool find_group_by(const char *name, gid_t gid, struct nss_group *out)
{
    struct group *found = NULL;
    size_t size = 1024;
    char *memory = NULL;
    int rc;
    do {
        size *= 2;
        memory = xreallocarray(memory, size, 1);
        rc = name ? getgrnam_r(name, &out->entry, memory, size, &found)
                  : getgrgid_r(gid, &out->entry, memory, size, &found);
    } while (rc == ERANGE && size < NSS_BYTES_MAX);
    out->memory = memory;
    if (found)
        return true;
    free(memory);
    return false;
}

char *directory_user_sid(const char *name)
{
    return xasprintf(USER_SID "%s", name);
}

static const struct str_set *groups_of(const struct passwd *user)
{
    int count = 64;
    gid_t *ids = xcalloc((size_t)count, sizeof(*ids));
    while (getgrouplist(user->pw_name, user->pw_gid, ids, &count) < 0 && count <= GROUPS_MAX)
        ids = xreallocarray(ids, (size_t)count, sizeof(*ids));
    const struct str_set *sids = NULL;
    for (int i = 0; count <= GROUPS_MAX && i < count; i++) {
        struct nss_group group;
        if (!find_group_by(NULL, ids[i], &group))
            continue;
        AUTO_FREE char *sid = xasprintf(GROUP_SID "%s", group.entry.gr_name);
        str_set_assign(&sids, str_set_with(sids, sid));
        free(group.memory);
    }
    free(ids);
    return sids;
}

const struct str_set *directory_sids_of_user(const char *name)
{
    AUTO_FREE char *own = directory_user_sid(name);
    const struct str_set *sids = NULL;
    struct nss_user user;
    if (find_user(name, &user)) {
        sids = groups_of(&user.entry);
        free(user.memory);
    }
    str_set_assign(&sids, str_set_with(sids, own));
    return sids;
}

char *directory_find(const char *name)
{
    struct nss_user user;
    struct nss_group group;
    if (!is_plain_name(name))
        return NULL;
    if (find_user(name, &user)) {
        free(user.memory);
        return directory_user_sid(name);
    }
    if (!find_group_by(name, 0, &group))
        return NULL;
    free(group.memory);
    return xasprintf(GROUP_SID "%s", name);
}

static const char *after(const char *text, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(text, prefix, len) == 0 && is_plain_name(text + len) ? text + len : NULL;
}

static const struct str_map *user_information(const char *sid, const struct passwd *user)
{
    AUTO_FREE char *uid = xasprintf("%u", user->pw_uid), *gid = xasprintf("%u", user->pw_gid);
    const struct str_pair pairs[] = {
        {"subject-name", user->pw_name},
        {"subject-displayname", user->pw_gecos && *user->pw_gecos ? user->pw_gecos : user->pw_name},
        {"subject-gecos", user->pw_gecos ? user->pw_gecos : ""},
        {"subject-is-group", "false"},
        {"subject-sid", sid},
        {"subject-uid", uid},
        {"subject-gid", gid},
        {"subject-account-disabled", "false"},
        {"subject-account-expired", "false"},
        {"subject-account-locked", "false"},
        {"subject-password-expired", "false"},
    };
    return str_map_new(pairs, ARRAY_LEN(pairs));
}

const struct str_map *directory_information(const char *sid)
{
    const char *name;
    const struct str_map *information = NULL;
    if ((name = after(sid, USER_SID))) {
        struct nss_user user;
        if (!find_user(name, &user))
            return NULL;
        information = user_information(sid, &user.entry);
        free(user.memory);
    } else if ((name = after(sid, GROUP_SID))) {
        struct nss_group group;
        if (!find_group_by(name, 0, &group))
            return NULL;
        AUTO_FREE char *gid = xasprintf("%u", group.entry.gr_gid);
        const struct str_pair pairs[] = {{"subject-name", name},
                                         {"subject-displayname", name},
                                         {"subject-is-group", "true"},
                                         {"subject-sid", sid},
                                         {"subject-gid", gid}};
        information = str_map_new(pairs, ARRAY_LEN(pairs));
        free(group.memory);
    }
    return information;
}

bool directory_groups(const char *sid, const struct str_set **groups)
{
    const char *name = after(sid, USER_SID);
    struct nss_user user;
    struct nss_group group;
    if (name && find_user(name, &user)) {
        *groups = groups_of(&user.entry);
        free(user.memory);
        return true;
    }
    name = after(sid, GROUP_SID);
    if (!name || !find_group_by(name, 0, &group))
        return false;
    free(group.memory);
    *groups = NULL;
    return true;
}
