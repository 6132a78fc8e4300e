/* A network namespace for a test, and what its tests share. */
#pragma once
#include <base/mem.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/network.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWNER "11111111-2222-4333-8444-555555555555"
#define OTHER "99999999-2222-4333-8444-555555555555"

static struct network_error error;

/* Without the right to it there is nothing to test. */
static inline void own_namespace(void)
{
    if (unshare(CLONE_NEWNET) < 0)
        cr_skip_test("no network namespace: %s", strerror(errno));
}

/* ip(8), as another program that sees what was done. Its exit code. */
static inline int ip(const char *words)
{
    char command[256];
    snprintf(command, sizeof(command), "%s", words);
    const char *argv[24] = {"ip"};
    size_t count = 1;
    char *rest = command, *word;
    while ((word = strsep(&rest, " ")) && count < ARRAY_LEN(argv) - 1)
        argv[count++] = word;
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout))
            _exit(126);
        execvp("ip", (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static inline struct network_bridge internal(const char *name)
{
    return (struct network_bridge){
        .name = name, .owner = OWNER, .managed = true, .mtu = 1400, .uplink = "", .vlan = -1};
}

static inline struct network_interface find(const char *name)
{
    struct network_interface *all, found = {0};
    size_t count;
    cr_assert_eq(network_interfaces(&all, &count, &error), 0, "%s", error.text);
    for (size_t i = 0; i < count; i++)
        if (streq(all[i].name, name))
            found = all[i];
    free(all);
    return found;
}

static inline void expect(enum network_failure kind, int rc)
{
    cr_expect_eq(rc, -1);
    cr_expect_eq(error.kind, kind, "%s", error.text);
}

/* Card `index` of the domain with that address; open. */
static inline struct network_card card(int index, const char *mac)
{
    return (struct network_card){.owner = OWNER, .index = index, .mac = mac};
}

/* The name of the one tap that is there. */
static inline const char *tap_name(void)
{
    static char name[NETWORK_NAME_SIZE];
    struct network_interface *all;
    size_t count;
    cr_assert_eq(network_interfaces(&all, &count, &error), 0, "%s", error.text);
    *name = '\0';
    for (size_t i = 0; i < count; i++)
        if (strncmp(all[i].name, "ctap", 4) == 0)
            snprintf(name, sizeof(name), "%s", all[i].name);
    free(all);
    return name;
}
