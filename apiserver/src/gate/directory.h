/* The machine's own users and groups as an outside directory: passwords are checked by PAM (service
 * "corral"), names and groups come from NSS. On only when external authentication of type PAM was enabled.
 * Everything here may block as long as the modules behind it do: for the directory workers. */
#pragma once
#include "../server.h"

#define DIRECTORY_TYPE "PAM"
#define DIRECTORY_SERVICE "corral"

/* The coordinator's host says so. */
bool directory_enabled(const struct server *server, const struct snapshot *snap);
/* A host that joins is connected as the coordinator's is. */
void directory_host_joined(const struct server *server, struct tx *tx, struct ref host);
/* True if PAM has a service file for us; else `why` has a sentence that names the file. */
bool directory_ready(const char *pam_dir, char why[static 256]);

enum directory_answer {
    DIRECTORY_RIGHT,  /* *name is the user as PAM settled it, a heap string */
    DIRECTORY_WRONG,  /* unknown, wrong password, or an account that may not be used */
    DIRECTORY_BROKEN, /* no answer: see the log */
};
/* `pam_dir`: folder of service files; NULL: the system's. */
enum directory_answer directory_check(const char *pam_dir, const char *peer, const char *user,
                                      const char *password, char **name);

/* Identifiers: "pam-user:<name>" and "pam-group:<name>". Heap strings. */
char *directory_user_sid(const char *name);
/* The user's own identifier and those of the groups that NSS knows it in. */
const struct str_set *directory_sids_of_user(const char *name);
/* Identifier of the user, or else the group, of this name, a heap string; NULL: NSS knows neither. */
char *directory_find(const char *name);
/* What NSS knows of an identifier, in the names of keys that clients know ("subject-name", ...): a count on a
 * map; NULL: nothing. */
const struct str_map *directory_information(const char *sid);
/* Identifiers of the groups that a user is in; false: no such user or group. */
bool directory_groups(const char *sid, const struct str_set **groups);
