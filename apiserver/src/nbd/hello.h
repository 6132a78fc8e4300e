/* The beginning of an NBD connection ("fixed newstyle" negotiation), the server's side: what the client says
 * becomes answers, until it has chosen an export. Pure: bytes in, bytes out. See the protocol's description,
 * doc/proto.md of NBD. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stdint.h>

#define NBD_NAME_MAX 4096

enum nbd_want {
    NBD_WANT_MORE,   /* bytes */
    NBD_WANT_TLS,    /* the answer goes out, then TLS begins: go on with nbd_hello_secured */
    NBD_WANT_EXPORT, /* `name` was asked for: go on with nbd_hello_export or nbd_hello_refuse */
    NBD_WANT_END,    /* the client is done, or speaks something else: nothing but the answer goes out */
};

struct nbd_hello {
    bool tls_needed; /* nothing else is answered before it */
    bool secure;
    bool greeted;    /* the client's flags were read */
    bool no_zeroes;  /* the client wants no padding */
    bool structured; /* the client takes structured replies */
    unsigned options;
    uint32_t option; /* that chose the export */
    char name[NBD_NAME_MAX + 1];
};

/* The greeting, into `out`. */
void nbd_hello_begin(struct nbd_hello *h, bool tls_needed, struct buf *out);
/* Takes whole messages from the front of `in` and answers into `out`, up to the next thing that is not only
 * an answer. */
enum nbd_want nbd_hello_feed(struct nbd_hello *h, struct buf *in, struct buf *out);
/* TLS has begun. What the client said before counts for nothing. */
void nbd_hello_secured(struct nbd_hello *h);

/* The chosen export has this size and these transmission flags. True: its transmission begins behind `out`;
 * false: the client only asked, and goes on negotiating. */
bool nbd_hello_export(struct nbd_hello *h, uint64_t size, uint16_t flags, struct buf *out);
enum nbd_refusal { NBD_REFUSED_UNKNOWN, NBD_REFUSED_POLICY };
/* The chosen export is not given. False: the client cannot be told and the connection has to be closed. */
bool nbd_hello_refuse(struct nbd_hello *h, enum nbd_refusal refusal, const char *text, struct buf *out);

/* "/UUID?session_id=REFERENCE", as VDI.get_nbd_info makes it. False: it is not of this form. */
#define NBD_UUID_SIZE 37
#define NBD_SESSION_SIZE 64
bool nbd_name_parse(const char *name, char uuid[static NBD_UUID_SIZE], char session[static NBD_SESSION_SIZE]);
