/* The machine and the agent themselves: off, anew, their logs, the machine's name. */
#include "agent.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/klog.h>
#include <time.h>

#define POWER_TIMEOUT_MS 50000
#define END_DELAY_MS 200 /* the answer leaves first */
#define KERNEL_LOG_MAX (256 * 1024)
#define SYSLOG_ACTION_READ_ALL 3
#define SYSLOG_ACTION_READ_CLEAR 4

int agent_host_power(struct agent *agent, struct agent_op *op, const struct hv_host_power_args *args,
                     struct hv_host_power_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    const char *action = host_power_action_name(args->action);
    if (!agent->options.power_command)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host's agent may not switch its machine off: it was started without "
                       "--power-command.");
    const char *argv[] = {agent->options.power_command, action, NULL};
    const struct proc_spec spec = {.argv = argv, .new_session = true};
    const struct proc_run_options options = {.timeout_ms = POWER_TIMEOUT_MS, .capture_max = 4096};
    struct proc_result ran AUTO_PROC_RESULT = PROC_RESULT_INIT;
    log_warn("power", "the machine is asked to end", "action", action);
    if (proc_run(&spec, &options, &ran) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The command that ends the machine cannot be started: %s",
                       strerror(errno));
    if (!proc_ok(&ran))
        return hv_fail(err, HV_ERR_KIND_IO, "The command that ends the machine failed with code %d.",
                       ran.code);
    return 0;
}

/* ---- logs ---- */

/* The wire carries no control characters, and no bytes that are not UTF-8: a kernel may print anything. */
static void make_plain(char *text)
{
    for (char *p = text; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || (unsigned char)*p >= 0x7f)
            *p = '?';
}

static int kernel_log(bool clear, char **out, struct hv_err *err)
{
    char *text = xmalloc(KERNEL_LOG_MAX + 1);
    int len = klogctl(clear ? SYSLOG_ACTION_READ_CLEAR : SYSLOG_ACTION_READ_ALL, text, KERNEL_LOG_MAX);
    if (len < 0) {
        int cause = errno;
        free(text);
        return hv_fail(err, cause == EPERM ? HV_ERR_KIND_DENIED : HV_ERR_KIND_IO,
                       "The kernel's messages cannot be read: %s", strerror(cause));
    }
    text[len] = '\0';
    *out = text;
    return 0;
}

int agent_host_log(struct agent *agent, struct agent_op *op, const struct hv_host_log_args *args,
                   struct hv_host_log_result *result, struct hv_err *err)
{
    (void)op;
    char *text AUTO_FREE = NULL;
    bool simulated = agent->driver == &hv_sim_driver;
    if (args->source == HOST_LOG_SOURCE_AGENT)
        text = log_kept();
    else if (simulated) /* this machine's own kernel is not a simulated host's to clear */
        text = xstrdup("<6>[    0.000000] Linux version (simulated)\n");
    else if (kernel_log(args->clear, &text, err) < 0)
        return -1;
    make_plain(text);
    str_assign(&result->text, text);
    return 0;
}

/* ---- name ---- */

static bool name_fits(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len < 64 && name[0] != '-' && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == len;
}

int agent_host_set_hostname(struct agent *agent, struct agent_op *op,
                            const struct hv_host_set_hostname_args *args,
                            struct hv_host_set_hostname_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    if (!name_fits(args->hostname))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The name is not a host's.");
    if (agent->driver != &hv_sim_driver) {
        char *line AUTO_FREE = xasprintf("%s\n", args->hostname);
        if (file_write_atomic("/etc/hostname", line, strlen(line), 0644) < 0 ||
            sethostname(args->hostname, strlen(args->hostname)) < 0)
            return hv_fail(err, errno == EPERM ? HV_ERR_KIND_DENIED : HV_ERR_KIND_IO,
                           "The machine's name cannot be changed: %s", strerror(errno));
    }
    pthread_mutex_lock(&agent->facts_lock);
    str_assign(&agent->facts.hostname, args->hostname);
    pthread_mutex_unlock(&agent->facts_lock);
    return 0;
}

/* ---- the agent's end ---- */

static void *end_soon(void *arg)
{
    const struct timespec delay = {.tv_nsec = END_DELAY_MS * 1000000L};
    (void)arg;
    nanosleep(&delay, NULL);
    kill(getpid(), SIGTERM);
    return NULL;
}

int agent_end_soon(struct agent *agent, bool again, struct hv_err *err)
{
    pthread_t thread;
    atomic_store(&agent->again, again);
    if (pthread_create(&thread, NULL, end_soon, NULL) != 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The agent has no thread left to end itself.");
    pthread_detach(thread);
    return 0;
}

int agent_agent_end(struct agent *agent, struct agent_op *op, const struct hv_agent_end_args *args,
                    struct hv_agent_end_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    log_info("power", "the agent is asked to end", "action", agent_end_action_name(args->action));
    return agent_end_soon(agent, args->action == AGENT_END_ACTION_RESTART, err);
}
