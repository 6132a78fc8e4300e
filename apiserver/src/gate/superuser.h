/* What the server keeps about its own administrator, and the secret by which members of a pool know each
 * other. Files in the state folder, readable by the server alone. Any thread. */
#pragma once
#include <model/error.h>
#include <stdbool.h>

struct superuser;
/* Loads the password's hash, making a random password on the first start, and the pool's secret. NULL after
 * logging why. */
struct superuser *superuser_open(const char *state_dir);
void superuser_free(struct superuser *superuser);

/* The hash that counts now, a heap string. */
char *superuser_hash(struct superuser *superuser);
/* Replaces the password; the file with the first one goes. 0, or -1 with CHANGE_PASSWORD_REJECTED for an
 * empty one. Costs a password hash. */
int superuser_set_password(struct superuser *superuser, const char *password, struct api_err *err);
bool superuser_is_pool_secret(struct superuser *superuser, const char *secret);
/* A new random secret of the pool; the old one is good for nothing from then on. */
int superuser_rotate_pool_secret(struct superuser *superuser, struct api_err *err);
