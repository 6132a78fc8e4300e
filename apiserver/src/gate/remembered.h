/* Answers of the outside directory that are still good: who gave a right password lately is let in without
 * asking again, as the pool's ext_auth_cache_ settings say. In memory only, by a keyed hash. Any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct remembered;
struct remembered *remembered_new(void);
void remembered_free(struct remembered *r);
/* The name that the directory settled, a heap string; NULL: it has to be asked. */
char *remembered_find(struct remembered *r, const char *user, const char *password, int64_t now_ms);
/* Keeps at most `size_max` answers: the oldest goes. */
void remembered_put(struct remembered *r, const char *user, const char *password, const char *name,
                    size_t size_max, int64_t good_until_ms);
void remembered_clear(struct remembered *r);
