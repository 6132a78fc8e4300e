/* What becomes of a host's VMs when the host goes down and when it comes up again (docs/vms.md): each is
 * suspended or shut down as its policy says, in order, and what is to run is brought back in order. */
#pragma once
#include <base/ref.h>
#include <db/store.h>
#include <model/error.h>

struct call;
struct server;

/* host.call_plugin(host, "guests", "down" or "up"): takes the call over and ends it when all is done; its
 * result is a sentence. XENAPI_MISSING_PLUGIN for any other function. */
int guests_plugin(struct call *call, struct ref host, const char *fn, struct api_err *err);

/* The host has been connected to and its rows are right: if it was booted since its VMs were looked at last
 * (host.boot_id), they are brought up, once. `boot_id`: of now. `begun` holds the boot that this was done
 * for. Blocks shortly. */
void guests_host_connected(struct server *server, struct ref host, const char *boot_id,
                           char begun[static 64]);
