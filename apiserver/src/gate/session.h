/* Sessions: who is calling. A session is a row that clients can read, and an entry here that a call
 * finds without touching the store. Any thread.
 *
 * The reference that a login answers is a secret (`token`); the row has another one (`ref`), which is what
 * task.session and the other fields show. Where a call names its own session by the token, the gate takes the
 * row's (session_translate). So whoever reads tasks does not learn how to be somebody else. */
#pragma once
#include <base/rc.h>
#include <base/ref.h>
#include <model/error.h>
#include <model/method.h>
#include <stdatomic.h>
#include <stdbool.h>

struct server;
struct sessions;
struct database;

/* Who somebody turned out to be. */
struct identity {
    char *user;                 /* name as given at login */
    char *sid;                  /* identifier of the user as a subject; "": none */
    const struct str_set *sids; /* that one and those of the user's groups */
    enum role role;
    bool superuser; /* no role check at all */
    bool pool;      /* a member of the pool, by its secret */
    bool local;     /* a session that ends with local_logout */
    bool limited;   /* by an API token: at most `limit`, whatever its maker may do */
    enum role limit;
    char *token;    /* name of that token; NULL: none */
    bool certified; /* came by a TLS client certificate: may do what that role may */
    struct ref subject;
};
/* The server's own administrator. */
struct identity identity_of_root(const char *user);
/* Whoever shows a certificate of that name. */
struct identity identity_of_certificate(const char *name);
void identity_done(struct identity *who);
#define AUTO_IDENTITY __attribute__((cleanup(identity_done)))

struct session {
    _Atomic uint32_t refs;
    struct ref token;            /* what the client holds */
    struct ref ref;              /* of its row */
    _Atomic int role;            /* an enum role: follows the subject's roles */
    uint64_t serial;             /* in the order of logins */
    bool superuser;              /* no role check at all */
    bool pool, local, certified; /* as in struct identity */
    _Atomic bool gone;
    _Atomic int64_t last_active_ms; /* monotonic */
    _Atomic int64_t told_ms;        /* monotonic: when it was last told of events; 0: never */
    _Atomic int64_t noted_ms;       /* the activity that its row tells */
    struct ref subject;             /* null for the superuser */
    char *user;                     /* name as logged in */
    char *sid;
    const struct str_set *sids; /* its own identifier and those of its groups, as of the login */
    char *originator;
    enum role limit;           /* never more than this: ROLE_POOL_ADMIN but for API tokens */
    char *token_name;          /* of the API token; NULL: none */
    struct database *database; /* counted: where its calls read (dr/database.h); NULL: the pool's */
    struct session *next;      /* in its bucket */
};

struct sessions *sessions_new(void);
void sessions_free(struct sessions *sessions);

/* Makes a session, counted for the caller. At most 500 of one originator and user (400 of nobody in
 * particular), and 5,000 of one user: the one idle longest goes. */
int session_open(struct server *server, const struct identity *who, const char *originator,
                 struct session **out, struct api_err *err);
/* By its token. Counted; NULL: no such session. Notes the activity. */
struct session *session_find(struct sessions *sessions, struct ref token);
struct session *session_ref(struct session *session);
void session_unref(struct session *session);
void session_unref_cleanup(struct session **session);
#define AUTO_SESSION __attribute__((cleanup(session_unref_cleanup)))
/* In decoded arguments: the caller's own token becomes the reference of its row. */
void session_translate(const struct session *session, const struct method_desc *method, void *args);
/* Ends it: further calls get SESSION_INVALID, its waiting event calls end. */
void session_close(struct server *server, struct session *session);
/* Ends what was idle for longer. */
void sessions_sweep(struct server *server, int64_t idle_ms);
/* Brings last_active of the rows up to date that are behind by more than this. Blocks. */
void sessions_note_activity(struct server *server, int64_t behind_ms);

/* Identifiers of the subjects that are logged in, each once; the caller's. */
const struct str_set *sessions_sids(struct sessions *sessions);
/* Ends the sessions of the user with this identifier, except one (NULL: none). */
void sessions_close_of(struct server *server, const char *sid, const struct session *except);
/* After a change of subjects or their roles: each session that has its rights from one gets those of now, or
 * ends when none are left. Blocks. */
void sessions_reassess(struct server *server);
