/* Trust on first use: which certificate each server showed when it was first spoken to. */
#pragma once
#include <base/secret.h>
#include <stdbool.h>

/* The file: known_hosts in $XDG_CONFIG_HOME/corral or ~/.config/corral (heap), or NULL without a home. */
char *xe_trust_path(void);
/* The fingerprint kept for "server:port". 1 found, 0 not, -1 with a sentence in *problem (heap). */
int xe_trust_find(const char *path, const char *server, int port, char out[static SHA256_TEXT_SIZE],
                  char **problem);
/* Adds one; the file and its folder are made when missing, readable by the user alone. */
int xe_trust_add(const char *path, const char *server, int port, const char *fingerprint, char **problem);
/* "ab:cd:..." for a person (heap). */
char *xe_trust_format(const char *fingerprint);
