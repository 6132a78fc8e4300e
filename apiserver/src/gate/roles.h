/* Who may do what: the verdict from the message's row, the caller's role and, for maps, the keys touched.
 * The same verdict for "add one key" and "set the whole map". Pure apart from the snapshot it reads. */
#pragma once
#include "../server.h"

/* 0, or -1 with RBAC_PERMISSION_DENIED [permission, text]. */
int roles_check(const struct call *call, struct api_err *err);
/* The same for a door that is no message, or for what a handler asks beyond its message: by the name of a
 * permission (permissions.h) that the model knows. */
int roles_allow(const struct session *session, const char *permission, struct api_err *err);
/* The same with the role said here. */
int roles_require(const struct session *session, enum role needed, const char *permission,
                  struct api_err *err);
/* The same for a message, without the keys of its arguments. */
int roles_require_message(const struct session *session, const struct method_desc *method,
                          struct api_err *err);
/* The keys in the maps of a row that comes from outside by another door than its constructor: the verdict
 * that the constructor would give. */
int roles_check_record(const struct session *session, const struct row *record, struct api_err *err);
