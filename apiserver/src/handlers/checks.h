/* What messages have against their arguments and the state of the pool before they do anything, beyond the
 * rules of their operation: one function a message, which a plan asks for all reasons. Its handler calls it,
 * or what it is made of where that gives what the handler goes on with (plug and unplug).
 *
 * `all`: see refusals.h. `tx`: what the handler changes within, for those that begin one before they check;
 * the others read call->snapshot and take NULL. Nothing is changed and no agent is asked. */
#pragma once
#include "../refusals.h"
#include "../server.h"

typedef int message_check(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                          struct api_err *err);

/* NULL: it checks nothing by itself, or only while it works. */
message_check *message_check_of(const char *message);

/* ---- the checks: with a transaction ---- */
message_check check_network_create, check_network_destroy;
message_check check_pbd_create, check_pbd_unplugged; /* destroy, set_device_config */
message_check check_sr_set_shared;
message_check check_vbd_create, check_vbd_destroy, check_vbd_set_mode;
message_check check_vif_create, check_vif_destroy;

/* ---- without ---- */
message_check check_bond_create, check_vlan_create;
message_check check_host_disable, check_host_evacuate;
message_check check_pbd_plug, check_pbd_unplug;
message_check check_pool_designate_new_master, check_pool_disable_ha, check_pool_eject, check_pool_enable_ha;
message_check check_sr_create, check_sr_destroy, check_sr_introduce, check_sr_reached; /* scan, update */
message_check check_vbd_eject, check_vbd_insert, check_vbd_plug, check_vbd_unplug;
message_check check_vdi_copy, check_vdi_create, check_vdi_destroy, check_vdi_resize;
message_check check_vdi_thin_copy; /* clone, snapshot */
message_check check_vif_plug, check_vif_unplug;
