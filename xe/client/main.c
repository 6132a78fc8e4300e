/* The xe program: settings, signals, and the engine joined with its transport. */
#include "client.h"
#include <base/buf.h>
#include <base/mem.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <termios.h>

#ifndef XE_VERSION
#define XE_VERSION "unknown"
#endif

_Atomic bool xe_stop;

static void on_signal(int number)
{
    (void)number;
    xe_stop = true;
}

static void on_alarm(int number)
{
    (void)number;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, alarm = {.sa_handler = on_alarm};
    sigemptyset(&action.sa_mask);
    sigemptyset(&alarm.sa_mask);
    sigaction(SIGALRM, &alarm, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

#define LOOK_MS 200

static int output_error; /* errno of the first failed write to stdout; EINTR: the user did not wait for it */

/* Writes to stdout, also where that does not block. Who reads may be slow, and Ctrl-C ends the wait: a timer
 * interrupts a write that has begun to wait after it. */
static void put(const char *text, size_t len)
{
    static const struct itimerval look = {{0, LOOK_MS * 1000}, {0, LOOK_MS * 1000}}, never;
    setitimer(ITIMER_REAL, &look, NULL);
    while (len > 0 && !output_error) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n > 0) {
            text += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, LOOK_MS);
        else if (n < 0 && errno != EINTR)
            output_error = errno;
        if (xe_stop && !output_error)
            output_error = EINTR;
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

/* To a terminal, control characters within names and values go in a readable form: what one user
 * calls a VM must not move the cursor of another. A carriage return may begin a text (progress). */
static bool is_control(const char *text, size_t i, size_t len)
{
    unsigned char c = (unsigned char)text[i];
    if (c == 0xc2 && i + 1 < len)
        return (unsigned char)text[i + 1] < 0xa0;
    return (c < 0x20 && c != '\n' && c != '\t' && !(c == '\r' && i == 0)) || c == 0x7f;
}

static void clean(const char *text, size_t len, struct buf *out)
{
    for (size_t i = 0; i < len; i++) {
        bool two = (unsigned char)text[i] == 0xc2;
        if (!is_control(text, i, len)) {
            buf_add_char(out, text[i]);
            continue;
        }
        buf_printf(out, "\\x%02x", (unsigned char)text[i]);
        if (two)
            buf_printf(out, "\\x%02x", (unsigned char)text[++i]);
    }
}

static void print(void *ctx, const char *text, size_t len)
{
    AUTO_BUF struct buf shown = BUF_INIT;
    (void)ctx;
    if (isatty(STDOUT_FILENO)) {
        clean(text, len, &shown);
        put(shown.data, shown.len);
    } else {
        put(text, len);
    }
}

static void print_error(void *ctx, const char *text, size_t len)
{
    AUTO_BUF struct buf shown = BUF_INIT;
    (void)ctx;
    if (isatty(STDERR_FILENO)) {
        clean(text, len, &shown);
        fwrite(shown.data, 1, shown.len, stderr);
    } else {
        fwrite(text, 1, len, stderr);
    }
}

/* Colours are for terminals whose user has not said NO_COLOR. */
static bool colours(int fd)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(none && *none) && term && *term && !streq(term, "dumb");
}

static void style(void *ctx, bool on_error, enum xe_style look)
{
    static const char *const codes[] = {"0", "32", "31", "2", "1"};
    (void)ctx;
    char code[8];
    if (!colours(on_error ? STDERR_FILENO : STDOUT_FILENO))
        return;
    int len = snprintf(code, sizeof(code), "\033[%sm", codes[look]);
    if (on_error)
        fputs(code, stderr);
    else
        put(code, (size_t)len);
}

/* The list that --watch shows again begins at the top. */
static void redraw(void *ctx)
{
    (void)ctx;
    static const char home[] = "\033[H\033[2J";
    if (isatty(STDOUT_FILENO))
        put(home, sizeof(home) - 1);
}

static int prompt(void *ctx, const char *question, char **answer, struct xe_err *err)
{
    char *line = NULL;
    size_t size = 0;
    (void)ctx;
    fputs(question, stdout);
    fflush(stdout);
    if (getline(&line, &size, stdin) < 0) {
        free(line);
        if (xe_stop)
            xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        else
            xe_err_set(err, XE_ERR_CLI, "there is no answer to read; say force=true");
        return -1;
    }
    line[strcspn(line, "\r\n")] = '\0';
    *answer = line;
    return 0;
}

static int prompt_secret(void *ctx, const char *question, char **answer, struct xe_err *err)
{
    struct termios old, quiet;
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &old) < 0) {
        xe_err_set(err, XE_ERR_CLI, "there is no terminal to ask for the password: say password-file=");
        return -1;
    }
    quiet = old;
    quiet.c_lflag &= (tcflag_t)~ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    int rc = prompt(ctx, question, answer, err);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stdout);
    return rc;
}

static bool interrupted(void *ctx)
{
    (void)ctx;
    return xe_stop;
}

static void resume(void *ctx)
{
    (void)ctx;
    xe_stop = false;
}

static struct xe_api api_of(struct xe_client *client)
{
    return (struct xe_api){.ctx = client,
                           .call = xe_rpc_call,
                           .session = xe_rpc_session,
                           .log_in_locally = xe_rpc_log_in_locally,
                           .use_session = xe_rpc_use_session,
                           .print = print,
                           .print_error = print_error,
                           .prompt = prompt,
                           .prompt_secret = prompt_secret,
                           .read_file = xe_read_file,
                           .upload = xe_upload,
                           .download = xe_download,
                           .upload_parts = xe_upload_parts,
                           .download_parts = xe_download_parts,
                           .build_disk = xe_build_disk,
                           .drop_disk = xe_drop_disk,
                           .disk_size = xe_disk_size,
                           .fetch = xe_fetch,
                           .open_ova = xe_open_ova,
                           .ova_disk = xe_ova_disk,
                           .write_ova = xe_write_ova,
                           .console = xe_console,
                           .screen = xe_screen,
                           .rest = xe_rpc_rest,
                           .interrupted = interrupted,
                           .resume = resume,
                           .progress_terminal = isatty(STDERR_FILENO),
                           .style = style,
                           .redraw = redraw};
}

/* "xe --complete -- WORDS": the last word is the one that is being typed. */
static int complete(int argc, char **argv)
{
    struct xe_options options = {.silent = true};
    struct xe_client client = {.options = &options};
    struct xe_api api = api_of(&client);
    char *problem = NULL;
    if (argc > 0 && streq(argv[0], "--")) {
        argc--;
        argv++;
    }
    if (argc > 0 && xe_options_read(&options, argc, argv, &problem) == 0) {
        int words = options.word_count - (int)options.owned_count;
        /* A last word that is a setting of the connection has no candidates. */
        if (words > 0 && options.words[words - 1] == argv[argc - 1])
            xe_complete(&api, words, options.words);
    }
    free(problem);
    xe_rpc_logout(&client);
    http_client_free(client.http);
    xe_options_done(&options);
    return 0;
}

static int run(struct xe_options *options)
{
    struct xe_client client = {.options = options};
    struct xe_api api = api_of(&client);
    const char *help[] = {"help", options->word_count ? options->words[0] : NULL};
    int code = options->help ? xe_run(&api, options->word_count ? 2 : 1, help)
                             : xe_run(&api, options->word_count, options->words);
    xe_rpc_logout(&client);
    http_client_free(client.http);
    if (output_error == EINTR)
        return XE_EXIT_INTERRUPTED;
    /* A reader that has seen enough (xe vm-list | head) is no trouble to tell of. */
    if (output_error && output_error != EPIPE)
        fprintf(stderr, "xe: cannot write the output: %s\n", strerror(output_error));
    return output_error ? XE_EXIT_FAILED : code;
}

int main(int argc, char **argv)
{
    struct xe_options options = {0};
    char *problem = NULL;
    int code;
    catch_signals();
    if (argc > 1 && streq(argv[1], "--complete"))
        return complete(argc - 2, argv + 2);
    if (xe_options_read(&options, argc - 1, argv + 1, &problem) < 0) {
        fprintf(stderr, "xe: %s\nFor usage run: 'xe help'\n", problem);
        free(problem);
        code = 1;
    } else if (options.version) {
        puts("xe " XE_VERSION);
        code = 0;
    } else {
        code = run(&options);
    }
    xe_options_done(&options);
    return code;
}
