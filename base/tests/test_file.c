#include <base/file.h>
#include <base/listen.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Test(file, at_an_offset)
{
    AUTO_CLOSE int fd = memfd_create("test", MFD_CLOEXEC);
    char got[8] = "";
    cr_assert_eq(file_write_at(fd, "corral", 6, 3), 0);
    cr_assert_eq(file_read_at(fd, got, 6, 3), 0);
    cr_assert_str_eq(got, "corral");
    cr_assert_eq(file_read_at(fd, got, 1, 0), 0, "what lies before is a hole");
    cr_assert_eq(got[0], '\0');
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 0, "the descriptor stands where it stood");
    errno = 0;
    cr_assert_eq(file_read_at(fd, got, 7, 3), -1);
    cr_assert_eq(errno, ENODATA, "%s", strerror(errno));
    errno = 0;
    cr_assert_eq(file_read_at(-1, got, 1, 0), -1);
    cr_assert_eq(errno, EBADF);
    errno = 0;
    cr_assert_eq(file_write_at(-1, got, 1, 0), -1);
    cr_assert_eq(errno, EBADF);
}

Test(listen, ports)
{
    char error[200] = "", expected[200];
    uint16_t first = 0, second = 0;
    AUTO_CLOSE int one = listen_tcp("127.0.0.1", 0, &first, error, sizeof(error));
    cr_assert_geq(one, 0, "%s", error);
    cr_assert_neq(first, 0);
    AUTO_CLOSE int other = listen_tcp("127.0.0.1", first, &second, error, sizeof(error));
    cr_assert_eq(other, -1);
    snprintf(expected, sizeof(expected), "cannot listen on 127.0.0.1 port %u: Address already in use", first);
    cr_assert_str_eq(error, expected);
    cr_assert_eq(listen_tcp("localhost", 0, &second, error, sizeof(error)), -1);
    cr_assert_str_eq(error, "\"localhost\" is not a numeric address to listen on");
}

Test(listen, loopback)
{
    static const char *const own[] = {"127.0.0.1", "127.255.0.9", "::1"};
    static const char *const others[] = {"0.0.0.0", "::",        "128.0.0.1", "10.0.0.1",
                                         "fe80::1", "localhost", ""};
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        cr_assert(listen_is_loopback(own[i]), "%s", own[i]);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        cr_assert_not(listen_is_loopback(others[i]), "%s", others[i]);
}
