"""The system calls that a job may make without conditions, by what they are for.

They are those that Docker's default profile allows a container without capabilities
(https://docs.docker.com/engine/security/seccomp/), except for what ``seccomp.py`` names. Names of other
architectures and of newer kernels are included; the runtime skips those that it does not know. The runtime answers
ENOSYS to system calls that are newer than all of these, so that a C library falls back to an older one.
"""

from __future__ import annotations

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 lchown lchown32 link
linkat lseek _llseek lstat lstat64 mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv
preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile
sendfile64 splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range sync_file_range2
arm_sync_file_range arm_fadvise64_64 syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat
utimensat_time64 utimes vmsplice write writev
"""
_ATTRIBUTES = "getxattr getxattrat fgetxattr lgetxattr listxattr listxattrat flistxattr llistxattr"
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64 select _newselect pselect6
pselect6_time64 signalfd signalfd4
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap
mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid getpgid getpgrp setpgid getsid setsid
gettid set_tid_address getrlimit ugetrlimit getrusage getpriority ioprio_get ioprio_set
sched_getaffinity sched_setaffinity sched_getattr sched_getparam sched_getscheduler
sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
sched_yield getcpu prctl arch_prctl set_thread_area get_thread_area set_tls get_tls set_robust_list get_robust_list
rseq futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue pidfd_open pidfd_send_signal process_mrelease
ptrace process_vm_readv process_vm_writev seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
capget capset restart_syscall breakpoint cacheflush swapcontext riscv_flush_icache riscv_hwprobe uretprobe
"""
_USERS = """
getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 getresuid getresuid32
getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32 setreuid setreuid32 setregid setregid32
setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32
"""
_SIGNALS = """
alarm kill tkill tgkill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 getitimer setitimer gettimeofday nanosleep time times timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64
"""
_COMMUNICATION = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown ipc mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop
semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
_ABOUT_THE_HOST = "getrandom sysinfo uname"

ALLOWED: tuple[str, ...] = tuple(
    "".join(
        f"{group} "
        for group in (
            _FILES,
            _ATTRIBUTES,
            _WAITING,
            _MEMORY,
            _PROCESSES,
            _USERS,
            _SIGNALS,
            _TIME,
            _COMMUNICATION,
            _ABOUT_THE_HOST,
        )
    ).split()
)
