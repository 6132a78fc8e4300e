/* Which message has which check. */
#include "checks.h"

#include <base/mem.h>

static const struct {
    const char *message;
    message_check *check;
} checks[] = {
    {"Bond.create", check_bond_create},
    {"network.create", check_network_create},
    {"network.destroy", check_network_destroy},
    {"PBD.create", check_pbd_create},
    {"PBD.destroy", check_pbd_unplugged},
    {"PBD.set_device_config", check_pbd_unplugged},
    {"PBD.plug", check_pbd_plug},
    {"PBD.unplug", check_pbd_unplug},
    {"host.disable", check_host_disable},
    {"host.evacuate", check_host_evacuate},
    {"pool.designate_new_master", check_pool_designate_new_master},
    {"pool.disable_ha", check_pool_disable_ha},
    {"pool.eject", check_pool_eject},
    {"pool.enable_ha", check_pool_enable_ha},
    {"SR.create", check_sr_create},
    {"SR.destroy", check_sr_destroy},
    {"SR.introduce", check_sr_introduce},
    {"SR.scan", check_sr_reached},
    {"SR.set_shared", check_sr_set_shared},
    {"SR.update", check_sr_reached},
    {"VBD.create", check_vbd_create},
    {"VBD.destroy", check_vbd_destroy},
    {"VBD.eject", check_vbd_eject},
    {"VBD.insert", check_vbd_insert},
    {"VBD.plug", check_vbd_plug},
    {"VBD.set_mode", check_vbd_set_mode},
    {"VBD.unplug", check_vbd_unplug},
    {"VBD.unplug_force", check_vbd_unplug},
    {"VBD.unplug_force_no_safety_check", check_vbd_unplug},
    {"VDI.clone", check_vdi_thin_copy},
    {"VDI.copy", check_vdi_copy},
    {"VDI.create", check_vdi_create},
    {"VDI.destroy", check_vdi_destroy},
    {"VDI.resize", check_vdi_resize},
    {"VDI.snapshot", check_vdi_thin_copy},
    {"VIF.create", check_vif_create},
    {"VIF.destroy", check_vif_destroy},
    {"VIF.plug", check_vif_plug},
    {"VIF.unplug", check_vif_unplug},
    {"VIF.unplug_force", check_vif_unplug},
    {"VLAN.create", check_vlan_create},
};

message_check *message_check_of(const char *message)
{
    for (size_t i = 0; i < ARRAY_LEN(checks); i++)
        if (streq(checks[i].message, message))
            return checks[i].check;
    return NULL;
}
