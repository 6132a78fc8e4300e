/* Subjects and local users as rows: who is allowed in, and with which role. Reads one snapshot; any thread.
 */
#pragma once
#include "../server.h"

/* Subjects of local users have the identifier "local:<uuid of the user>". Heap string. */
char *accounts_sid(const char *user_uuid);
/* The local user of that login name, or of that identifier; NULL: none. Borrowed from the snapshot. */
const struct user_row *accounts_user(const struct snapshot *snap, const char *short_name);
const struct user_row *accounts_user_of_sid(const struct snapshot *snap, const char *sid);

enum rights {
    RIGHTS_NO_SUBJECT, /* none of them is a subject */
    RIGHTS_NO_ROLE,    /* one is, but has no role */
    RIGHTS_SOME,
};
/* What somebody may do who has these identifiers (of oneself and of groups): the strongest role of all the
 * subjects among them, and the subject that gives it. *role only with RIGHTS_SOME. */
enum rights accounts_rights(const struct snapshot *snap, const struct str_set *sids, struct ref *subject,
                            enum role *role);
