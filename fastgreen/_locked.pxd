# What stands in for the interpreter's lock where there is none, and costs nothing where there is one.
#
# FG_LOCKED(function, owner, arguments...) calls a function; without the interpreter's lock it holds that of the owner
# meanwhile. Like the interpreter's lock it is let go while the thread waits for another, so what must be done in one
# go calls no code that can wait. A module declares the macro once for each kind of function.
# FG_LOAD and FG_STORE are for a number that other threads read without a lock.
cdef extern from *:
    """
    #ifdef __SANITIZE_THREAD__ /* it does not see the locks of an interpreter that was built without it */
    void __tsan_acquire(void *);
    void __tsan_release(void *);
    #define FG_SEEN(event, owner) __tsan_##event((void *)(owner))
    #else
    #define FG_SEEN(event, owner) ((void)0)
    #endif
    #ifdef Py_GIL_DISABLED
    #define FG_LOCKED(function, owner, ...) __extension__({ \\
        PyCriticalSection fg_section; \\
        PyCriticalSection_Begin(&fg_section, (PyObject *)(owner)); \\
        FG_SEEN(acquire, owner); \\
        __auto_type fg_answer = (function)(__VA_ARGS__); \\
        FG_SEEN(release, owner); \\
        PyCriticalSection_End(&fg_section); \\
        fg_answer; })
    #define FG_LOAD(number) __atomic_load_n(&(number), __ATOMIC_ACQUIRE)
    #define FG_STORE(number, value) __atomic_store_n(&(number), (value), __ATOMIC_RELEASE)
    #else
    #define FG_LOCKED(function, owner, ...) (function)(__VA_ARGS__)
    #define FG_LOAD(number) (number)
    #define FG_STORE(number, value) ((number) = (value))
    #endif
    """
    int load_int "FG_LOAD"(int number) noexcept
    void store_int "FG_STORE"(int number, int value) noexcept
