/* One system call of a job fails: each in turn, by a seccomp listener that answers for the kernel.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include "support.h"

#include <linux/seccomp.h>

/* Runs on a thread of its own, whose system calls are counted and answered here. */
struct injection {
    void (*job)(void *user);
    void *user;
    int at;             /* the system call that fails; -1: none does */
    int error;          /* its errno */
    size_t copy_length; /* of the mappings that are copies of blocks */
    int listener;       /* atomic; -1: not yet, -2: refused */
    int calls;          /* how many the job made */
    int numbers[256];   /* and which */
    struct seccomp_data failed;
    int domain; /* of the socket it was about, or 0 */
};

/* Runs the job; false where no listener is to be had. */
bool inject(struct injection *injection);
/* The name of a system call. */
const char *call_name(const struct seccomp_data *call);

/* What a process has of the kernel's, and a link of it. */
struct holdings {
    struct footprint footprint;
    int sockets; /* packet sockets of this namespace */
    int promiscuity, allmulti;
    const char *link;
};
/* `link`: may be NULL. */
struct holdings holdings_now(const char *link);
/* NULL, or what there is besides, or no more. */
const char *what_is_left(const struct holdings *before);

#endif
