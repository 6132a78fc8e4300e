/* Roles and permissions as rows that clients read. Their references and uuids follow from their names, so
 * they are the same in every pool and after every upgrade. */
#pragma once
#include "../server.h"

/* Brings the rows in line with the model: writes only what differs. */
void role_rows_bootstrap(struct tx *tx);
/* Reference of the row of a role or permission of that name. */
struct ref role_ref(const char *name);
/* Which of the roles that a subject may have it is, an enum role; -1: none of them. */
int role_of_ref(struct ref ref);
