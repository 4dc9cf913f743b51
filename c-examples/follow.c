/* A capture that outlives its interface: it tells what becomes of the link, goes on through down,
 * up and a new name, and after a removal waits for the next interface of the same name.
 *
 *   follow INTERFACE          until Ctrl-C; try `ip link set INTERFACE down`, or delete and make it
 *
 * One loop over one descriptor: NETRING_CAPTURE_EVENTS_ON_FD makes it readable for events too. */
#include <netring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct netring_capture *capture;

static void on_signal(int number)
{
    (void)number;
    netring_capture_stop(capture); /* async-signal-safe; NULL is fine */
}

static void print_event(const struct netring_event *event)
{
    time_t seconds = (time_t)(event->time_ns / 1000000000);
    char at[16];

    strftime(at, sizeof at, "%H:%M:%S", localtime(&seconds));
    printf("%s %s ", at, event->name);
    switch (event->kind) {
    case NETRING_EVENT_DOWN:
        puts("is down");
        break;
    case NETRING_EVENT_UP:
        puts("is up");
        break;
    case NETRING_EVENT_RENAMED:
        printf("is the new name of %s\n", event->old_name);
        break;
    case NETRING_EVENT_REMOVED:
        puts("was removed");
        break;
    case NETRING_EVENT_MOVED:
        printf("was moved to network namespace %d\n", event->netns_id);
        break;
    default: /* of a newer library */
        printf("event %u\n", event->kind);
    }
}

static void print_events(void)
{
    struct netring_event event;

    while (netring_capture_next_event(capture, 0, &event, sizeof event) == 1)
        print_event(&event);
}

int main(int argc, char **argv)
{
    struct netring_capture_config config = NETRING_CAPTURE_CONFIG_INIT;
    struct sigaction action;
    unsigned long long packets = 0;
    struct netring_stats stats;
    struct netring_error err;
    struct pollfd ready;
    int rc;

    if (argc != 2) {
        fprintf(stderr, "usage: %s INTERFACE\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    config.flags |= NETRING_CAPTURE_EVENTS_ON_FD;
    if (netring_capture_open(argv[1], &config, &capture, &err) < 0) {
        fprintf(stderr, "%s: %s: %s\n", argv[1], err.option, err.message);
        return err.code == NETRING_EPERM ? 77 : 1;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    printf("%s: capturing\n", argv[1]);
    ready.fd = netring_capture_fd(capture);
    ready.events = POLLIN;
    for (;;) {
        struct netring_block_info info;
        struct netring_block *block;

        poll(&ready, 1, -1);
        /* What was received comes before what happened to the interface. */
        rc = netring_capture_next_block(capture, 0, &block);
        if (rc == 1) {
            netring_block_info(block, &info, sizeof info);
            packets += info.count;
            netring_block_release(block);
            continue;
        }
        print_events();
        if (rc == NETRING_ENODEV) {
            printf("%llu packets so far; waiting for the next %s\n", packets, argv[1]);
            rc = netring_capture_rebind(capture, NULL, 0, -1, &err);
            if (rc == 0)
                printf("%s is back\n", argv[1]);
            else if (rc != NETRING_ESHUTDOWN)
                fprintf(stderr, "%s: %s\n", err.option, err.message);
        }
        if (rc < 0)
            break;
    }
    netring_capture_stats(capture, &stats, sizeof stats);
    printf("%llu packets, %llu dropped\n", packets, (unsigned long long)stats.dropped);
    netring_capture_close(capture);
    return rc == NETRING_ESHUTDOWN ? 0 : 1;
}
