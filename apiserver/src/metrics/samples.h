/* Numbers of agents as samples of data sources: names and kinds are those that XenAPI clients know. Pure. */
#pragma once
#include "../rrd/rrd.h"
#include <hv/types.h>

/* Samples of one moment of one object. The names are its own. */
struct samples {
    struct rrd_sample *items;
    size_t count, cap;
};
void samples_done(struct samples *s);
/* The name is printed. A `standard` source is kept from the start, others when somebody asks for it. */
void samples_add(struct samples *s, bool standard, enum rrd_kind kind, double max, double value,
                 const char *name, ...) __attribute__((format(printf, 6, 7)));
const struct rrd_sample *samples_find(const struct samples *s, const char *name);

/* What disks have moved, counted from some moment on. */
struct io_count {
    int64_t read_bytes, written_bytes, read_ops, write_ops, read_ns, write_ns;
};
void io_add(struct io_count *to, const struct io_count *more);

/* What is remembered of a domain between two looks. */
struct domain_look {
    bool valid;
    int64_t domid, time_us, run_ns; /* run_ns: of all its processors, waiting included */
    struct disk_look {
        char device[32];
        struct io_count io;
    } * disks;
    size_t disk_count;
};
void domain_look_done(struct domain_look *look);
/* Adds the samples of a domain; `before` becomes this look. moved[i] is set to what now->disks[i] moved since
 * then, *run_ns to how long its processors were running or ready to. */
void samples_of_domain(struct samples *s, const struct domain_stats *now, struct domain_look *before,
                       struct io_count *moved, int64_t *run_ns);

/* I/O of one SR by all domains of a host, since the server began to look. */
struct sr_look {
    char uuid[40];
    struct io_count io, before; /* before: at the last look */
};
struct host_look {
    int64_t time_us, run_ns; /* run_ns: of all processors of domains */
    struct sr_look *srs;
    size_t sr_count;
};
void host_look_done(struct host_look *look);
/* The SR's place, made when missing. */
struct sr_look *host_look_sr(struct host_look *look, const char *uuid);
void samples_of_host(struct samples *s, const struct host_stats *now, struct host_look *look);
