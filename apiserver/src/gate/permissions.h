/* The permissions that there are, each with the weakest role that has it: one a message, one a guarded key of
 * a map, one an HTTP door, and a few that a handler asks for by itself. Made once from the model; constant
 * after that. Any thread. */
#pragma once
#include <base/rc.h>
#include <model/method.h>

struct permission {
    const char *name; /* "vm.start", "vm.add_to_other_config/key:pci", "http/get_export"; an rc string */
    enum role role;
    bool client_cert; /* a login by client certificate has it too */
};

/* In byte order of the names. */
const struct permission *permissions_all(size_t *count);
/* NULL: no such permission. */
const struct permission *permission_find(const char *name);
/* Names of all that the role has: a count for the caller, one set shared by all. */
const struct str_set *permissions_of_role(enum role role);
/* The same of logins by client certificate. */
const struct str_set *permissions_of_certificates(void);
/* "vm.start" of "VM.start": a heap string. */
char *permission_of_method(const struct method_desc *method);
