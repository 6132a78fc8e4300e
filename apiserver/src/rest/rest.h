/* REST below /api/v1: resources and actions of the same model, through the same gate as every other call.
 *
 *     GET    /api/v1/vms?filter=&sort=&fields=&limit=&cursor=      a page of the list
 *     GET    /api/v1/vms/{uuid}                                    one, with an ETag
 *     POST   /api/v1/vms                                           the constructor
 *     PATCH  /api/v1/vms/{uuid}                                    fields; null removes a key of a map (RFC
 * 7396) DELETE /api/v1/vms/{uuid}                                    the destructor POST
 * /api/v1/vms/{uuid}/actions/start                      a message about one object POST
 * /api/v1/vms/actions/import                            a message of the class POST   /api/v1/sessions,
 * DELETE /api/v1/session              log in, log out GET    /api/v1/events what changes, as server-sent
 * events
 *
 * Objects are named by uuid, fields and parameters as in the XenAPI; dates are RFC 3339. Errors are RFC 9457
 * problems. docs/rest.md is the client's side. */
#pragma once
#include <base/http_server.h>

struct server;
struct rest_keys;

/* Idempotency-Keys of requests under way. */
struct rest_keys *rest_keys_new(void);
void rest_keys_free(struct rest_keys *keys);

struct plans;
struct plans *plans_new(void);
void plans_free(struct plans *plans);

/* The door: any request below /api/v1 that no longer route takes. */
void rest_serve(struct server *server, struct http_request *req);
