/* A row for each family of names: what stands between head and tail ends the sentence. */
#include "describe.h"

#include <base/mem.h>
#include <stdio.h>

#define VM 1u << METER_VM
#define HOST 1u << METER_HOST
#define SR 1u << METER_SR

static const struct family {
    unsigned kinds;
    const char *head, *tail, *unit, *sentence;
} families[] = {
    {VM, "cpu_usage", "", "(fraction)", "Processor use, mean of all virtual processors"},
    {HOST, "cpu_avg", "", "(fraction)", "Processor use, mean of all processors"},
    {VM, "cpu", "", "(fraction)", "Use of virtual processor"},
    {HOST, "cpu", "", "(fraction)", "Use of processor"},
    {VM, "memory_internal_free", "", "KiB", "Memory that the guest says is free"},
    {VM, "memory_target", "", "B", "Memory that the VM is meant to have"},
    {VM, "memory", "", "B", "Memory that the VM has"},
    {VM, "vif_", "_rx_errors", "err/s", "Receive errors of virtual interface"},
    {VM, "vif_", "_tx_errors", "err/s", "Send errors of virtual interface"},
    {VM, "vif_", "_rx", "B/s", "Received by virtual interface"},
    {VM, "vif_", "_tx", "B/s", "Sent by virtual interface"},
    {VM, "vbd_", "_iops_read", "requests/s", "Read requests on disk"},
    {VM, "vbd_", "_iops_write", "requests/s", "Write requests on disk"},
    {VM, "vbd_", "_iops_total", "requests/s", "Requests on disk"},
    {VM, "vbd_", "_read_latency", "μs", "Mean time of a read request on disk"},
    {VM, "vbd_", "_write_latency", "μs", "Mean time of a write request on disk"},
    {VM, "vbd_", "_latency", "μs", "Mean time of a request on disk"},
    {VM, "vbd_", "_iowait", "s/s", "Part of the time with requests under way on disk"},
    {VM, "vbd_", "_avgqu_sz", "requests", "Mean number of requests under way on disk"},
    {VM, "vbd_", "_read", "B/s", "Read from disk"},
    {VM, "vbd_", "_write", "B/s", "Written to disk"},
    {VM, "runstate_fullrun", "", "(fraction)", "Part of the time in which all processors run"},
    {VM, "runstate_full_contention", "", "(fraction)", "Part of the time in which all wait for a processor"},
    {VM, "runstate_blocked", "", "(fraction)", "Part of the time in which all processors are idle"},
    {VM, "runnable_any", "", "(fraction)", "Part of the time in which one waits for a processor"},
    {HOST, "loadavg", "", "(fraction)", "Load of the host's own system, mean of a minute"},
    {HOST, "memory_total_kib", "", "KiB", "Memory of the host"},
    {HOST, "memory_free_kib", "", "KiB", "Memory of the host that is free"},
    {HOST, "memory_reclaimed_max", "", "B", "Memory that could be taken back from guests"},
    {HOST, "memory_reclaimed", "", "B", "Memory that was taken back from guests"},
    {HOST, "pif_aggr_rx", "", "B/s", "Received by all interfaces"},
    {HOST, "pif_aggr_tx", "", "B/s", "Sent by all interfaces"},
    {HOST, "pif_", "_rx_errors", "err/s", "Receive errors of interface"},
    {HOST, "pif_", "_tx_errors", "err/s", "Send errors of interface"},
    {HOST, "pif_", "_rx", "B/s", "Received by interface"},
    {HOST, "pif_", "_tx", "B/s", "Sent by interface"},
    {HOST, "hostload", "", "(fraction)",
     "Virtual processors that run or wait, for each processor of the host"},
    {HOST, "running_vcpus", "", "count", "Virtual processors of running VMs"},
    {HOST, "running_domains", "", "count", "Running VMs"},
    {HOST, "pool_session_count", "", "sessions", "Sessions of the pool"},
    {HOST, "pool_task_count", "", "tasks", "Tasks of the pool"},
    {HOST, "xapi_open_fds", "", "file descriptors", "Files that the pool's server has open"},
    {HOST, "xapi_memory_usage_kib", "", "KiB", "Memory of the pool's server"},
    {HOST, "xapi_free_memory_kib", "", "KiB", "Memory that the pool's server has but does not use"},
    {HOST, "xapi_live_memory_kib", "", "KiB", "Memory that the pool's server uses"},
    {HOST, "io_throughput_read_", "", "MiB/s", "Read by this host's VMs from SR"},
    {HOST, "io_throughput_write_", "", "MiB/s", "Written by this host's VMs to SR"},
    {HOST, "io_throughput_total_", "", "MiB/s", "Read and written by this host's VMs on SR"},
    {HOST, "iops_read_", "", "requests/s", "Read requests of this host's VMs on SR"},
    {HOST, "iops_write_", "", "requests/s", "Write requests of this host's VMs on SR"},
    {HOST, "iops_total_", "", "requests/s", "Requests of this host's VMs on SR"},
    {HOST, "iowait_", "", "s/s", "Part of the time with requests under way on SR"},
    {HOST, "latency_", "", "ms", "Mean time of a request on SR"},
    {HOST, "read_latency_", "", "ms", "Mean time of a read request on SR"},
    {HOST, "write_latency_", "", "ms", "Mean time of a write request on SR"},
    {HOST, "avgqu_sz_", "", "requests", "Mean number of requests under way on SR"},
    {SR, "physical_utilisation", "", "B", "Space that is used on the storage"},
    {SR, "size", "", "B", "Size of the storage"},
};

const char *describe_source(enum meter_kind kind, const char *name, char out[static DESCRIPTION_SIZE])
{
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(families); i++) {
        const struct family *f = &families[i];
        size_t head = strlen(f->head), tail = strlen(f->tail);
        if (!(f->kinds & 1u << kind) || len < head + tail || strncmp(name, f->head, head) != 0 ||
            !streq(name + len - tail, f->tail))
            continue;
        snprintf(out, DESCRIPTION_SIZE, "%s%s%.*s", f->sentence, len > head + tail ? " " : "",
                 (int)(len - head - tail), name + head);
        return f->unit;
    }
    out[0] = '\0';
    return "";
}
