#include <arpa/inet.h>
#include <base/listen.h>
#include <base/mem.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACKLOG 1024

bool listen_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool listen_is_address(const char *text)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(text, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

int listen_tcp(const char *address, uint16_t port, uint16_t *bound, char *error, size_t max)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);
    const int on = 1;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(address, service, &hints, &found) != 0) {
        snprintf(error, max, "\"%s\" is not a numeric address to listen on", address);
        return -1;
    }
    AUTO_CLOSE int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 &&
              bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0 &&
              getsockname(fd, (struct sockaddr *)&own, &size) == 0;
    if (!ok)
        snprintf(error, max, "cannot listen on %s port %u: %s", address, port, strerror(errno));
    freeaddrinfo(found);
    if (!ok)
        return -1;
    *bound = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&own)->sin6_port
                                             : ((struct sockaddr_in *)(void *)&own)->sin_port);
    return TAKE_FD(fd);
}
