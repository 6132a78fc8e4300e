/* What an HTTP request says of the task that it makes or adopts. */
#pragma once
#include "../server.h"

struct http_request;

/* From headers task-id and subtask-of, else the cookies, else the query parameters task_id and subtask_of;
 * what is no reference is left out. Where the request came in. Release it with task_claim_done. */
void task_claim_read(struct http_request *req, struct task_claim *claim);
