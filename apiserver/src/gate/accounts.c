/* There are few subjects and local users: they are walked. */
#include "accounts.h"

#include "role_rows.h"
#include <base/mem.h>

#define LOCAL "local:"

char *accounts_sid(const char *user_uuid)
{
    return xasprintf(LOCAL "%s", user_uuid);
}

struct search {
    const char *text;
    const struct row *found;
};

static bool is_user(const struct row *row, void *arg)
{
    struct search *search = arg;
    if (streq(user_row(row)->short_name, search->text))
        search->found = row;
    return !search->found;
}

const struct user_row *accounts_user(const struct snapshot *snap, const char *short_name)
{
    struct search search = {.text = short_name};
    snapshot_each(snap, CLASS_user, is_user, &search);
    return user_row(search.found);
}

const struct user_row *accounts_user_of_sid(const struct snapshot *snap, const char *sid)
{
    if (strncmp(sid, LOCAL, strlen(LOCAL)) != 0)
        return NULL;
    return user_row(snapshot_by_uuid(snap, CLASS_user, sid + strlen(LOCAL)));
}

struct rights_search {
    const struct str_set *sids;
    struct ref subject;
    enum rights rights;
    int role; /* -1: none yet */
};

static bool add_rights(const struct row *row, void *arg)
{
    struct rights_search *search = arg;
    const struct subject_row *subject = subject_row(row);
    if (!str_set_has(search->sids, subject->subject_identifier))
        return true;
    if (search->rights == RIGHTS_NO_SUBJECT) {
        search->rights = RIGHTS_NO_ROLE;
        search->subject = row->ref;
    }
    for (size_t i = 0; subject->roles && i < subject->roles->count; i++) {
        int role = role_of_ref(subject->roles->items[i]);
        if (role <= search->role)
            continue;
        search->role = role;
        search->rights = RIGHTS_SOME;
        search->subject = row->ref;
    }
    return true;
}

enum rights accounts_rights(const struct snapshot *snap, const struct str_set *sids, struct ref *subject,
                            enum role *role)
{
    struct rights_search search = {.sids = sids, .role = -1};
    if (sids)
        snapshot_each(snap, CLASS_subject, add_rights, &search);
    if (search.rights != RIGHTS_NO_SUBJECT)
        *subject = search.subject;
    if (search.rights == RIGHTS_SOME)
        *role = (enum role)search.role;
    return search.rights;
}
