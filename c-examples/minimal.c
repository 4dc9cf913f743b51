/* Prints time and length of every packet of an interface, until Ctrl-C. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include <netring.h>

static struct netring_capture *capture;

static void stop(int signal)
{
    (void)signal;
    netring_capture_stop(capture); /* may be called from a signal handler */
}

int main(int argc, char **argv)
{
    struct netring_error err;
    struct netring_block *block;
    int rc;

    if (argc != 2 || argv[1][0] == '-')
        return fprintf(stderr, "usage: minimal INTERFACE      (\"any\": all of them)\n"), 2;
    if (netring_capture_open(argv[1], NULL, &capture, &err) < 0)
        return fprintf(stderr, "minimal: %s\n", err.message), 1;
    signal(SIGINT, stop);

    while ((rc = netring_capture_next_block(capture, -1, &block)) > 0) {
        struct netring_packet p[64];
        int n;
        while ((n = netring_block_read(block, p, sizeof *p, 64)) > 0)
            for (int i = 0; i < n; i++)
                printf("%" PRIu64 ".%09" PRIu64 " %" PRIu32 " bytes\n", p[i].time_ns / 1000000000,
                       p[i].time_ns % 1000000000, p[i].len);
        netring_block_release(block);
    }
    if (rc != NETRING_ESHUTDOWN) /* the end after netring_capture_stop; anything else is not */
        fprintf(stderr, "minimal: %s\n", netring_strerror(rc));
    netring_capture_close(capture);
    return rc != NETRING_ESHUTDOWN;
}
