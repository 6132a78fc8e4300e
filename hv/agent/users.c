/* As whom processes run that have to do with guests: each domain's as a user of its own, tools that read
 * disks as one that they share. Users are numbers; nothing has to be in the machine's list of them. */
#include "agent.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <pwd.h>
#include <stdio.h>

#define TOOLS_USER "corral-qemu"
#define TOOLS_UID 64055 /* when there is no such user */
#define MAP_MAX 65536

/* Whether all of GUEST_USERS exist where this process is: in a container there may be fewer users. */
static bool all_mapped(const char *map, unsigned first)
{
    char *text AUTO_FREE = file_read(map, MAP_MAX, NULL);
    char *rest = text, *line;
    while (rest && (line = strsep(&rest, "\n"))) {
        unsigned long long inside, outside, count;
        if (sscanf(line, "%llu %llu %llu", &inside, &outside, &count) == 3 && inside <= first &&
            first + (unsigned long long)GUEST_USERS <= inside + count)
            return true;
    }
    return false;
}

void users_choose(struct agent *agent)
{
    const struct passwd *user = getpwnam(TOOLS_USER);
    agent->env.guest_uid = user ? user->pw_uid : TOOLS_UID;
    agent->env.guest_gid = user ? user->pw_gid : TOOLS_UID;
    if (agent->options.guest_uid > 0)
        agent->env.guest_uid = agent->env.guest_gid = (uid_t)agent->options.guest_uid;
    unsigned first = (unsigned)agent->options.guest_uids;
    bool possible = all_mapped("/proc/self/uid_map", first) && all_mapped("/proc/self/gid_map", first);
    if (geteuid() == 0 && first && !possible)
        log_warn("main", "guests share one user: those that each would have do not exist in this container",
                 "first", LOG_INT(first));
    agent->env.guest_first_uid = possible ? first : 0;
}
