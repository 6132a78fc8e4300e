/* What a guest's card may send: rules as text, and frames that pass a tap or do not. */
#include "fixture.h"

#include <base/proc.h>

#define MAC "02:00:00:00:00:01"
#define HEADER 10 /* of virtio, before each frame */
#define FRAME 97  /* bytes; the last is the number of the frame */

static const char *const v4[] = {"192.0.2.1", "192.0.2.3"}, *const v6[] = {"2001:db8::1"};

static struct network_card locked(void)
{
    struct network_card c = card(0, MAC);
    c.locking = NETWORK_LOCKED;
    c.ipv4 = v4;
    c.ipv4_count = 2;
    c.ipv6 = v6;
    c.ipv6_count = 1;
    return c;
}

/* ---- frames ---- */

struct frame {
    const char *what;
    const char *hex; /* from the receiver's address on; blanks are skipped; zeroes follow, and a number */
    bool passes;     /* a locked card */
};

#define TO_ALL "ffffffffffff "
#define OWN "020000000001 "
#define ELSE "020000000009 "
#define ARP "0806 0001080006040001 "
#define IP4 "0800 450000000000000040110000 " /* length and checksum: see pack */
#define UDP "00070007000900 "
#define IP6(next) "86dd 60000000 0000" next "ff "
#define V6_OWN "20010db8000000000000000000000001 "
#define V6_ELSE "20010db8000000000000000000000009 "
#define V6_NONE "00000000000000000000000000000000 "

static const struct frame frames[] = {
    {"ARP of its own", TO_ALL OWN ARP OWN "c0000201 000000000000 c0000209", true},
    {"ARP with the second address", TO_ALL OWN ARP OWN "c0000203 000000000000 c0000209", true},
    {"ARP with another's address", TO_ALL OWN ARP OWN "c0000202 000000000000 c0000209", false},
    {"ARP for another's card", TO_ALL OWN ARP ELSE "c0000201 000000000000 c0000209", false},
    {"another card's frame", TO_ALL ELSE ARP ELSE "c0000201 000000000000 c0000209", false},
    {"IPv4 of its own", TO_ALL OWN IP4 "c0000201 c0000209 " UDP, true},
    {"IPv4 with another's address", TO_ALL OWN IP4 "c0000202 c0000209 " UDP, false},
    {"IPv4 without an address", TO_ALL OWN IP4 "00000000 ffffffff " UDP, false},
    {"a request for DHCP", TO_ALL OWN IP4 "00000000 ffffffff 00440043000900 ", true},
    {"IPv6 of its own", TO_ALL OWN IP6("11") V6_OWN V6_ELSE UDP, true},
    {"IPv6 with another's address", TO_ALL OWN IP6("11") V6_ELSE V6_OWN UDP, false},
    {"asking whether its address is free", TO_ALL OWN IP6("3a") V6_NONE V6_ELSE "8700000000000000" V6_OWN,
     true},
    {"asking whether another's address is free",
     TO_ALL OWN IP6("3a") V6_NONE V6_ELSE "8700000000000000" V6_ELSE, false},
    {"saying where it is", TO_ALL OWN IP6("3a") V6_OWN V6_ELSE "8800000000000000" V6_OWN, true},
    {"saying that it is another", TO_ALL OWN IP6("3a") V6_OWN V6_ELSE "8800000000000000" V6_ELSE, false},
    {"something with a tag", TO_ALL OWN "8100 0005 0800", false},
    {"something else", TO_ALL OWN "88b5", false},
};

static size_t pack(const struct frame *frame, int number, unsigned char *out)
{
    size_t len = HEADER;
    memset(out, 0, 256);
    for (const char *p = frame->hex; *p; p++) {
        unsigned byte;
        if (*p == ' ')
            continue;
        cr_assert_eq(sscanf(p++, "%2x", &byte), 1);
        out[len++] = (unsigned char)byte;
    }
    unsigned char *frame_at = out + HEADER, *ip_at = frame_at + 14;
    out[HEADER + FRAME - 1] = (unsigned char)number;
    if (frame_at[12] == 0x08 && frame_at[13] == 0x00) {
        unsigned sum = 0;
        ip_at[3] = FRAME - 14;
        for (size_t i = 0; i < 20; i += 2)
            sum += (unsigned)ip_at[i] << 8 | ip_at[i + 1];
        sum = (sum & 0xffff) + (sum >> 16);
        sum = ~((sum & 0xffff) + (sum >> 16));
        ip_at[10] = (unsigned char)(sum >> 8);
        ip_at[11] = (unsigned char)sum;
    } else if (frame_at[12] == 0x86) {
        ip_at[5] = FRAME - 14 - 40;
    }
    return HEADER + FRAME;
}

static void send_frame(int fd, const struct frame *frame, int number)
{
    unsigned char bytes[256];
    size_t len = pack(frame, number, bytes);
    cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
}

/* Numbers of the frames that come before the one with the number `last`, as bits. */
static uint64_t receive(int fd, int last)
{
    uint64_t seen = 0;
    for (;;) {
        unsigned char bytes[2048];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 20000), 1, "the last frame did not arrive");
        ssize_t n = read(fd, bytes, sizeof(bytes));
        cr_assert_gt(n, HEADER);
        if (n != HEADER + FRAME)
            continue; /* the kernel's own */
        if (bytes[n - 1] == last)
            return seen;
        seen |= 1ULL << bytes[n - 1];
    }
}

static const struct frame good = {"", TO_ALL OWN ARP OWN "c0000201 000000000000 c0000209", true};
#define LAST 60

/* Sends all frames and a good one behind them; the bits of those that arrived. */
static uint64_t send_all(int from, int to)
{
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        send_frame(from, &frames[i], (int)i);
    send_frame(from, &good, LAST);
    return receive(to, LAST);
}

static int open_tap(const char *bridge, const struct network_card *c)
{
    int fd;
    cr_assert_eq(network_tap_open(bridge, c, &fd, &error), 0, "%s", error.text);
    return fd;
}

static void with_bridges(void)
{
    struct network_bridge one = internal("xapi1"), two = internal("xapi2");
    own_namespace();
    cr_assert_eq(network_bridge_ensure(&one, &error), 0, "%s", error.text);
    cr_assert_eq(network_bridge_ensure(&two, &error), 0, "%s", error.text);
}

static char *tables(void)
{
    static const char *const argv[] = {"nft", "list", "tables", NULL};
    const struct proc_spec spec = {.argv = argv};
    const struct proc_run_options options = {.timeout_ms = 20000, .capture_max = 65536};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    cr_assert_eq(proc_run(&spec, &options, &result), 0, "nft is missing");
    return xstrdup(result.out.data ? result.out.data : "");
}

Test(cards, a_locked_card_sends_only_as_itself, .init = with_bridges)
{
    const struct network_card c = locked(), other = card(1, "02:00:00:00:00:02");
    int guest = open_tap("xapi1", &c), peer = open_tap("xapi1", &other);
    uint64_t seen = send_all(guest, peer);
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        cr_expect_eq((seen >> i) & 1, frames[i].passes, "%s", frames[i].what);
    /* What it is sent is another matter. */
    send_frame(peer, &frames[4], 1);
    send_frame(peer, &good, LAST);
    cr_expect_eq(receive(guest, LAST), 2);
    /* An open one sends what it likes. */
    const struct network_card open = card(0, MAC);
    cr_assert_eq(network_tap_change("xapi1", &open, &error), 0, "%s", error.text);
    cr_expect_eq(send_all(guest, peer), (1ULL << ARRAY_LEN(frames)) - 1);
    char *text AUTO_FREE = tables();
    cr_expect_null(strstr(text, "ctap"), "%s", text);
    /* And locked once more it does not. */
    cr_assert_eq(network_tap_change("xapi1", &c, &error), 0, "%s", error.text);
    cr_expect_eq(send_all(guest, peer), seen);
    close(guest);
    close(peer);
}

/* Frames of tag 5, 6, none, tag 0, in both directions. */
static uint64_t send_tags(int from, int to)
{
    static const struct frame tags[] = {{"5", TO_ALL OWN "8100 0005 0800", true},
                                        {"6", TO_ALL OWN "8100 0006 0800", true},
                                        {"none", TO_ALL OWN "88b5", true},
                                        {"0", TO_ALL OWN "8100 e000 0800", true},
                                        {"5, last", TO_ALL OWN "8100 0005 0800", true}};
    for (size_t i = 0; i < 4; i++)
        send_frame(from, &tags[i], (int)i);
    send_frame(from, &tags[4], LAST);
    return receive(to, LAST);
}

Test(cards, a_trunk_passes_its_tags_alone, .init = with_bridges)
{
    static const char *const five[] = {"5"}, *const five_and_none[] = {"5", "0"}, *const bad[] = {"4095"};
    struct network_card c = card(0, MAC);
    const struct network_card other = card(1, "02:00:00:00:00:02");
    c.trunks = five;
    c.trunk_count = 1;
    int guest = open_tap("xapi1", &c), peer = open_tap("xapi1", &other);
    cr_expect_eq(send_tags(guest, peer), 1);
    cr_expect_eq(send_tags(peer, guest), 1);
    c.trunks = five_and_none;
    c.trunk_count = 2;
    cr_assert_eq(network_tap_change("xapi1", &c, &error), 0, "%s", error.text);
    cr_expect_eq(send_tags(guest, peer), 1 | 4 | 8);
    cr_expect_eq(send_tags(peer, guest), 1 | 4 | 8);
    c.trunk_count = 0;
    cr_assert_eq(network_tap_change("xapi1", &c, &error), 0, "%s", error.text);
    cr_expect_eq(send_tags(guest, peer), 15);
    c.trunks = bad;
    c.trunk_count = 1;
    expect(NETWORK_BAD_NAME, network_tap_change("xapi1", &c, &error));
    close(guest);
    close(peer);
}

Test(cards, a_card_without_addresses_says_nothing, .init = with_bridges)
{
    struct network_card c = locked();
    c.ipv4_count = c.ipv6_count = 0;
    const struct network_card other = card(1, "02:00:00:00:00:02"), third = card(2, "02:00:00:00:00:03");
    int guest = open_tap("xapi1", &c), peer = open_tap("xapi1", &other), marker = open_tap("xapi1", &third);
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        send_frame(guest, &frames[i], (int)i);
    send_frame(marker, &good, LAST);
    cr_expect_eq(receive(peer, LAST), 0);
    close(guest);
    close(peer);
    close(marker);
}

Test(cards, rules_go_when_their_tap_is_gone, .init = with_bridges)
{
    const struct network_card c = locked();
    int guest = open_tap("xapi1", &c);
    char *before AUTO_FREE = tables();
    cr_expect_not_null(strstr(before, tap_name()), "%s", before);
    network_filters_sweep();
    char *kept AUTO_FREE = tables();
    cr_expect_str_eq(kept, before);
    close(guest);
    network_filters_sweep();
    char *after AUTO_FREE = tables();
    cr_expect_str_eq(after, "");
}

Test(cards, a_card_moves_to_another_bridge_while_it_is_open, .init = with_bridges)
{
    const struct network_card c = card(0, MAC), on_one = card(1, "02:00:00:00:00:02"),
                              on_two = card(2, "02:00:00:00:00:03"), stranger = card(7, MAC);
    int guest = open_tap("xapi1", &c), one = open_tap("xapi1", &on_one), two = open_tap("xapi2", &on_two);
    send_frame(guest, &good, 1);
    send_frame(guest, &good, LAST);
    cr_expect_eq(receive(one, LAST), 2);
    cr_assert_eq(network_tap_change("xapi2", &c, &error), 0, "%s", error.text);
    send_frame(guest, &good, 3);
    send_frame(guest, &good, LAST);
    cr_expect_eq(receive(two, LAST), 8);
    send_frame(two, &good, LAST);
    receive(guest, LAST);
    send_frame(one, &good, 4);
    /* Switched off, nothing passes; on again, all does. */
    struct network_card closed = c;
    closed.locking = NETWORK_CLOSED;
    cr_assert_eq(network_tap_change("xapi2", &closed, &error), 0, "%s", error.text);
    unsigned char bytes[256];
    cr_expect_lt(write(guest, bytes, pack(&good, 5, bytes)), 0);
    cr_assert_eq(network_tap_change("xapi2", &c, &error), 0, "%s", error.text);
    send_frame(guest, &good, LAST);
    cr_expect_eq(receive(two, LAST), 0);
    expect(NETWORK_NO_DEVICE, network_tap_change("xapi2", &stranger, &error));
    expect(NETWORK_NO_DEVICE, network_tap_change("xapi3", &c, &error));
    close(guest);
    close(one);
    close(two);
}

/* More than what may be sent at once and in the next hour: most of it is dropped. */
Test(cards, a_rate_holds_back_the_guest, .init = with_bridges)
{
    struct network_card c = card(0, MAC);
    const struct network_card other = card(1, "02:00:00:00:00:02"), third = card(2, "02:00:00:00:00:03");
    unsigned char bytes[HEADER + 1400] = {0}, seen[2048];
    c.rate_kbytes = 1;
    int guest = open_tap("xapi1", &c), peer = open_tap("xapi1", &other), marker = open_tap("xapi1", &third);
    cr_assert_eq(fcntl(peer, F_SETFL, O_NONBLOCK), 0);
    pack(&good, 0, bytes);
    int arrived = 0;
    for (int i = 0; i < 400; i++) { /* 547 KiB, of which 128 pass */
        cr_assert_eq(write(guest, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
        while (read(peer, seen, sizeof(seen)) == (ssize_t)sizeof(bytes))
            arrived++;
    }
    send_frame(marker, &good, LAST);
    for (;;) {
        struct pollfd p = {.fd = peer, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 20000), 1);
        ssize_t n = read(peer, seen, sizeof(seen));
        arrived += n == (ssize_t)sizeof(bytes);
        if (n == HEADER + FRAME)
            break;
    }
    cr_expect_gt(arrived, 80);
    cr_expect_lt(arrived, 200, "%d frames passed", arrived);
    close(guest);
    close(peer);
    close(marker);
}

Test(cards, rules_as_text)
{
    char *text = NULL;
    struct network_card c = card(0, MAC);
    cr_assert_eq(network_filter_text("ctap0", &c, &text, &error), 0);
    cr_expect_null(text);
    c.rate_kbytes = 2048;
    cr_assert_eq(network_filter_text("ctap0", &c, &text, &error), 0);
    cr_expect_str_eq(text, "table netdev ctap0 {\n  chain guest {\n"
                           "    type filter hook ingress device \"ctap0\" priority 0; policy accept;\n"
                           "    limit rate over 2048 kbytes/second burst 262144 bytes drop\n  }\n}\n");
    free(text);
    static const char *const bad[] = {"192.0.2.1; flush ruleset", "192.0.2", "", "2001:db8::1",
                                      "192.0.2.1\n"};
    c = locked();
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        c.ipv4 = &bad[i];
        c.ipv4_count = 1;
        expect(NETWORK_BAD_NAME, network_filter_text("ctap0", &c, &text, &error));
    }
    c = locked();
    c.mac = "02:00:00:00:00:01 drop";
    expect(NETWORK_BAD_NAME, network_filter_text("ctap0", &c, &text, &error));
    c = locked();
    c.rate_kbytes = -1;
    expect(NETWORK_BAD_NAME, network_filter_text("ctap0", &c, &text, &error));
}
