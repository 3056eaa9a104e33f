/*
 * The commit and collect protocol of one lineage, for the model checker spin. docs/protocol.md explains it, names
 * the rules (R1 ...) and the invariants (I1 ...) that are marked here, and says how to run it:
 *
 *     spin -DWRITERS -a protocol.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -E -m100000
 *
 * A scope says who takes part. Each BREAK_... takes a rule out: then the search must find an error.
 * A process may stop at any step and never go on (a crash) or go on much later (a sleep), as every order of steps is
 * tried and the invariants are checked in each. What is done without the store is no step of its own.
 */

/* ---------------------------------------------------------------- scopes */

#ifdef WRITERS        /* two writers, of one operation or of two; commits of others; trimming */
#define WRITER_A
#define WRITER_B
#ifndef TICKS
#define TICKS 2
#endif
#define TRIM
#endif
#ifdef SLEEPER        /* a collector that wakes after its next number was trimmed, a writer, deletion */
#define WRITER_A
#define COLLECTORS 1
#define TICKS 2
#define TRIM
#define DELETER
#define FEWER
#endif
#ifdef COLLECT        /* a writer, a collector, a reader, deletion and trash */
#define WRITER_A
#define COLLECTORS 1
#define READER
#define DELETER
#endif
#ifdef COLLECTS       /* two collectors, a writer, deletion and trash */
#define WRITER_A
#define COLLECTORS 2
#define DELETER
#define FEWER
#endif
#ifdef RESUME         /* a run that is slow or dead, the one that takes it over, a collector that gives runs up */
#define WRITER_A
#define WRITER_B
#define SAME_OPERATION
#define COLLECTORS 1
#define ROUNDS 2
#endif
#ifdef COMPACT        /* a compaction, a writer, a collector, deletion and trash */
#define WRITER_A
#define COMPACTIONS 1
#define COLLECTORS 1
#define DELETER
#define FEWER
#endif
#ifdef COMPACTS       /* two compactions and a collector */
#define COMPACTIONS 2
#define COLLECTORS 1
#endif
#ifdef ROLLBACK       /* a writer, a collector, and a store that is set back to an older state */
#define WRITER_A
#define COLLECTORS 1
#define ROUNDS 2
#define LOSES_COMMITS
#endif
#ifdef ALL            /* the whole composition: too much to be searched to the end */
#define WRITER_A
#define WRITER_B
#define COMPACTIONS 1
#define COLLECTORS 2
#define READER
#define DELETER
#define TICKS 1
#define TRIM
#endif

#ifndef COMPACTIONS
#define COMPACTIONS 0
#endif
#ifndef COLLECTORS
#define COLLECTORS 0
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif

#ifdef ALL
#define NUMBERS 50    /* more than there can be commits; asserted */
#else
#define NUMBERS 24
#endif

/* The engine keeps the latest 64 commits and the multiples of 64, and 64 outcomes in each. */
#define KEEP 3
#define MILESTONE 3
#define SIZE (NUMBERS + MILESTONE + 1)
#define NEXT(n) (((((n) + 1) / MILESTONE) + 1) * MILESTONE)
#define FIRST 3       /* number of the commit with which it begins */

/* Who: also the number of its attempt. */
#define A 0
#ifdef WRITER_B
#define B 1
#define COMPACTION 2
#else
#define B 0
#define COMPACTION 1
#endif
#define ATTEMPTS (COMPACTION + COMPACTIONS)
#define COLLECTING ATTEMPTS
#define PROCESSES (COLLECTING + COLLECTORS)

/* Where probing is broken, somebody may stop at a commit that is not the newest, so all have to be remembered. */
#if defined(BREAK_PROBE) || defined(BREAK_PROBE_ORDER) || defined(BREAK_TRIM_MILESTONES)
#define REMEMBER
#endif
#ifdef LOSES_COMMITS
#define REMEMBER
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)

/* Objects. The first backup needs two: that of a block's base, and that of the patches on it. */
#define BASE 0
#define PATCH 1
#define OWN(me) (2 + (me))
#define ONCE(me) (4 + (me))
#define COPY(me) (6 + (me) - COMPACTION)
#define OBJECTS 8

/* Backups: 0 was there before; 1 and 2 are made by the writers. */
#define ROOTS 3

typedef Commit {
    byte id;
    byte prev;            /* id of the commit that this one was built on */
    byte num;
    byte epoch;
    byte roots;           /* backups that are there */
    byte trash;           /* of these, in the trash */
    byte revision;        /* two bits for each */
    byte need[ROOTS];     /* objects that the root of each names */
    byte attempts;        /* runs that may still commit or read */
    byte ep[ATTEMPTS];    /* their epochs */
    short adopts[ATTEMPTS]; /* sets of epochs */
    byte pin[ATTEMPTS];   /* objects that the pinned revision names */
    byte condemned;
#ifdef TRIM
    byte out[KEEP];       /* outcomes: ids of the latest commits, this one included */
#endif
}

byte at[SIZE];            /* the store's commits: number -> id; 0: not there */
byte objects;             /* the store's segments, pages and roots */
byte born[OBJECTS];       /* their epochs, which are part of their names */

Commit newest;               /* what the newest commit holds */
Commit known[PROCESSES];  /* the state that each process has in hand; id 0: none */
#ifdef TRIM
Commit made[PROCESSES];   /* the commit that each is making */
#endif
#ifdef REMEMBER
Commit held[SIZE];        /* what any holds that is there */
#endif
hidden Commit draft;       /* while it is made */
hidden Commit nothing;

/* What no process knows: for the invariants, and for the limits of what a listing may show. */
byte top;                 /* the highest number that ever was */
#ifdef TRIM
byte ids;                 /* given to commits so far */
#endif
byte opB;                 /* the operation of writer B: 0, that of A, or another */
byte succeeded;           /* backups of which success was reported */
byte asked;               /* backups that somebody asked to delete */
byte gone;                /* backups whose deletion was reported */
byte thrown;              /* in the trash, reported */
#ifdef LOSES_COMMITS
byte seen;                /* the highest number that was written down outside of the store */
bool lost;                /* commits were lost by the store */
byte missed;              /* what backups reported before need, all the same */
bool resting, over;       /* nobody is in the middle of something */
#else
#define lost false
#define missed 0
#endif

hidden byte j, k, n, found;
hidden int epochs;

#define OF_OPERATION(s, op) (((op) == 0 && HAS(s.roots, 1)) || (HAS(s.roots, 2) && opB == (op)))
#define REVISION(revisions, r) (((revisions) >> (2 * (r))) & 3)

mtype = { AT_ONCE, BEGIN, FINISH, TIDY, CONDEMN, FORGET };

/* ---------------------------------------------------------------- invariants */

/* Objects that the backups of a state need, ... */
inline needed_by_backups(s) {
    found = 0; j = 0;
    do
    :: j < ROOTS ->
        if
        :: HAS(s.roots, j) -> found = found | s.need[j]
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0
}

/* ... and its backups and pins (R12, R13). */
inline needed_by(s) {
    needed_by_backups(s);
    j = 0;
    do
    :: j < ATTEMPTS -> found = found | s.pin[j]; j++
    :: else -> break
    od;
    j = 0
}

/* Epochs of runs that may still commit. */
inline epochs_of(s) {
    epochs = 0; j = 0;
    do
    :: j < ATTEMPTS ->
        if
        :: s.ep[j] != 0 -> epochs = epochs | BIT(s.ep[j]) | s.adopts[j]
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0
}

/* Checked whenever a commit takes effect or something is reported. */
inline judge() {
    needed_by(newest);
    assert((found & ~objects) == 0);                               /* I1: what is committed can be restored */
    assert(lost || (succeeded & ~asked & ~newest.roots) == 0);        /* I3: no backup is lost */
    assert(!(HAS(newest.roots, 1) && HAS(newest.roots, 2) && opB == 0)); /* I4: no operation has two */
    assert((gone & newest.roots) == 0);                               /* I5: no deletion is lost */
    assert((thrown & newest.roots & ~newest.trash) == 0)                 /* I5: nor a label */
}

/* Deleting. I1: nothing goes that a backup, a pin or a run that may still commit needs. */
inline remove(doomed_ones) {
    needed_by(newest);
    assert((doomed_ones & objects & (found | missed)) == 0);
    epochs_of(newest);
    j = 0;
    do
    :: j < OBJECTS ->
        if
        :: HAS(doomed_ones & objects, j) ->
#ifndef SECOND_LINE
            assert(!HAS(epochs, born[j]));
#endif
            born[j] = 0
        :: else
        fi;
        j++
    :: else -> break
    od;
    objects = objects & ~(doomed_ones)
}

/* ---------------------------------------------------------------- commits */

inline copy(to, from) {
    to.id = from.id; to.prev = from.prev; to.num = from.num; to.epoch = from.epoch; to.roots = from.roots;
    to.trash = from.trash; to.revision = from.revision; to.attempts = from.attempts; to.condemned = from.condemned;
    k = 0;
    do
    :: k < ATTEMPTS -> to.ep[k] = from.ep[k]; to.adopts[k] = from.adopts[k]; to.pin[k] = from.pin[k]; k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < ROOTS -> to.need[k] = from.need[k]; k++
    :: else -> break
    od;
#ifdef TRIM
    k = 0;
    do
    :: k < KEEP -> to.out[k] = from.out[k]; k++
    :: else -> break
    od;
#endif
    k = 0
}

/* The next state, made from one that is followed: what the rules do not change stays. */
inline prepare(followed) {
    copy(draft, followed);
    draft.prev = followed.id; draft.num++;
#ifdef TRIM
    ids++; draft.id = ids;
    k = KEEP - 1;
    do
    :: k > 0 -> draft.out[k] = draft.out[k - 1]; k--
    :: else -> break
    od;
    draft.out[0] = draft.id
#else
    draft.id = draft.num            /* nothing is created but upon the newest, so the number tells it from others */
#endif
}

/* The store creates a commit: its name is free. */
inline create(commit) {
    n = commit.num;
    assert(n < NUMBERS);
    assert(at[n] == 0);                                               /* I2: nothing is ever overwritten */
    at[n] = commit.id;
#ifdef REMEMBER
    copy(held[n], commit);
#endif
    if
    :: n > top ->
        assert(n == top + 1 && commit.prev == newest.id);             /* I2: there is one chain */
        top = n;
        copy(newest, commit);
        judge()
    :: else                       /* a number that was trimmed: nobody may ever take this one for the newest */
    fi;
    n = 0
}

/* Is a commit among the outcomes that a state keeps? */
#define OUTCOME(s, m) (s.out[0] == m.id || s.out[1] == m.id || s.out[2] == m.id)

#ifdef BREAK_CREATE               /* R1: puts, where it should create */
#define TAKEN(me) (false)
#else
#define TAKEN(me) (at[known[me].num + 1] != 0)
#endif

/* What becomes of a creation; `count`, `unanswered`, `taken` are labels of the process. Only a lost answer leaves it
   open. Then the creation is sent again, and who finds his own commit there has made it. */
#ifdef TRIM
#define CREATE(me) \
        if \
        :: d_step { create(made[me]) }; goto count \
        :: d_step { create(made[me]) }; goto unanswered \
        LOST_REQUEST \
        fi
#ifdef BREAK_LOST_ANSWER    /* without this mistake, a lost request is a sleep before it */
#define LOST_REQUEST :: goto unanswered
#else
#define LOST_REQUEST
#endif
#define SEND(me) d_step { copy(made[me], draft) }; CREATE(me)
#define FORGOTTEN(me) d_step { copy(made[me], nothing) }
#else
/* What is created stays, so a lost answer is a sleep. What was made is at once the state in hand. */
#define SEND(me) d_step { create(draft); copy(known[me], draft) }; goto count
#define FORGOTTEN(me) skip
#endif

#ifdef BREAK_LOST_ANSWER    /* R1: a creation without an answer is taken for a success */
#define RESOLVE(me) goto count
#else
#define RESOLVE(me) \
        if \
        :: at[made[me].num] == made[me].id -> goto count \
        :: at[made[me].num] == 0 -> CREATE(me) \
        :: else -> goto taken \
        fi
#endif

/* Upward until the next number is not there. What is read last is kept in hand, if it can be the newest. */
#define CLIMB(me) \
            do \
            :: at[high + 1] != 0 -> high++ \
            :: else -> break \
            od; \
            TAKE(me)
#ifdef REMEMBER
#define TAKE(me) copy(known[me], held[high])
#else
#define TAKE(me) \
            if \
            :: high == top -> copy(known[me], newest) \
            :: else -> copy(known[me], nothing) \
            fi
#endif

#ifdef BREAK_LOST_ANSWER
#define FOUND(me) \
        high = 0; \
        if \
        :: known[me].id == 0 -> d_step { copy(known[me], made[me]) } \
        :: else \
        fi
#else
#define FOUND(me) high = 0; assert(known[me].id != 0)     /* I2: what is found was the newest while it was looked for */
#endif

/* The newest commit: a listing that may lag, then probes upward from a number that is known to exist. `raced`: a race
   was lost, so what was made is forgotten. */
inline find(me, from, raced) {
#ifdef TRIM
    atomic {
        high = from;
        if
        :: raced -> FORGOTTEN(me)
        :: else
        fi;
        if
        :: true                    /* the listing shows nothing above */
        :: top > high -> high = top
        fi;
        d_step {
#ifdef BREAK_PROBE_ORDER
            TAKE(me)
#else
            CLIMB(me)
#endif
        };
#ifdef BREAK_PROBE
        FOUND(me)
#endif
    };
#ifndef BREAK_PROBE                /* R3: n+1 is not there; a multiple above it may be, if n+1 was trimmed */
    do
    :: atomic {
        if
        :: at[NEXT(high)] != 0 -> d_step { high = NEXT(high); CLIMB(me) }
#ifdef BREAK_PROBE_ORDER           /* R3: sleeps between the multiple and n+1, which may be trimmed meanwhile */
        :: else -> break
#else
        :: else -> FOUND(me); break
#endif
        fi
       }
    od
#endif
#ifdef BREAK_PROBE_ORDER
    ;
    atomic { CLIMB(me); FOUND(me) }
#endif
#else
    d_step { copy(known[me], newest) }                      /* without trimming, probing ends at the newest */
#endif
}
/* Who wants to add a commit may begin from any that is there. If it is old, that is as if it was read before a sleep. */
inline find_any(me) {
    d_step { copy(known[me], newest) }
}

/* R3: whether the commit just made counts. After it, `known` is the newest state (or the one that was made). */
inline counts(me) {
#ifdef BREAK_COUNT
    d_step { copy(known[me], made[me]) };                      /* R3: what was created is taken to count */
    counted = true
#else
#ifdef TRIM
    find(me, made[me].num, false);
    counted = ((known[me].id == made[me].id && at[made[me].num - 1] == made[me].prev) ||
        (known[me].id != made[me].id && OUTCOME(known[me], made[me])))
#else
    find(me, 0, false);
    counted = true
#endif
#endif
}

#define DONE(me) d_step { copy(known[me], nothing) }; FORGOTTEN(me)

/* ---------------------------------------------------------------- a backup */

#define MINE (me + 1)             /* the root that a writer makes */
#ifdef BREAK_NAMES                /* R5: who takes over uses the former one's names again */
#define NAME(me) OWN(A)
#else
#define NAME(me) OWN(me)
#endif

/* R4: a commit needs its own attempt in the state that it follows. */
#ifdef BREAK_ATTEMPT
#define STANDS(s) true
#else
#define STANDS(s) HAS(s.attempts, me)
#endif

/* R11: what would name anything condemned is refused. */
#ifdef BREAK_REFUSE_CONDEMNED
#define NAMES_CONDEMNED(s) false
#else
#define NAMES_CONDEMNED(s) ((s.condemned & (adopted | BIT(NAME(me)))) != 0)
#endif

#ifdef BREAK_OPERATION            /* R4: nobody looks whether the operation has its backup already */
#define HAS_BACKUP(s, op) false
#else
#define HAS_BACKUP(s, op) OF_OPERATION(s, op)
#endif

inline leave(who) {
    draft.attempts = draft.attempts & ~BIT(who);
    draft.ep[who] = 0; draft.adopts[who] = 0; draft.pin[who] = 0
}

/* Enter an attempt that pins its parent and takes over what dead runs of the operation have sent. */
inline decide_begin(me, op) {
    draft.epoch++;
    assert(draft.epoch < 15);
    epochs = 0; j = 0;
    do
    :: j <= B ->                                     /* R10: only of those whose entries stand in this very state */
        if
        :: HAS(draft.attempts, j) && (j == me || op == opB) ->
            epochs = epochs | BIT(draft.ep[j]) | draft.adopts[j];
            leave(j)                                 /* R4, R10: one commit puts the new id in the old one's place */
        :: else
        fi;
        j++
    :: else -> break
    od;
#ifdef BREAK_TAKEOVER
    epochs = epochs | remembered;
#endif
    draft.attempts = draft.attempts | BIT(me);
    draft.ep[me] = draft.epoch;
#ifndef BREAK_ADOPTS                                  /* R10: its entry carries the epochs that it took over */
    draft.adopts[me] = epochs;
#endif
    if
    :: HAS(draft.roots & ~draft.trash, 0) -> draft.pin[me] = draft.need[0]
    :: else
    fi
}

inline put(object, epoch_of_it) {
    objects = objects | BIT(object); born[object] = epoch_of_it
}

#ifdef TRIM
#define MADE(me) made[me]
#else
#define MADE(me) known[me]
#endif
/* R10: who adopts something checks that the takeover counts. Nothing else relies on it. */
#define UNCHECKED(me) (phase == BEGIN && MADE(me).adopts[me] == 0)

#ifdef WRITER_A
proctype Writer(byte me; byte op) {
    mtype phase = BEGIN;
    byte high, saw, epoch, base, adopted;
    bool counted;
    short remembered;

    find_any(me);
#ifdef BREAK_TAKEOVER
    d_step { epochs_of(known[me]); remembered = epochs };
#endif
    if
#ifndef FEWER
    :: atomic {
        /* Nothing has changed: only a root is put, and one commit enters it, upon the very state that was read. */
        HAS(known[me].roots & ~known[me].trash, 0) && !OF_OPERATION(known[me], op) &&
        (op != opB || (known[me].attempts & (BIT(A) | BIT(B))) == 0) ->
        phase = AT_ONCE; saw = known[me].id; d_step { put(ONCE(me), 0) }
       }
#endif
    :: true
    fi;

try:
    atomic {
        if
        :: HAS_BACKUP(known[me], op) -> goto success
        :: else
        fi;
        if
        :: phase == AT_ONCE && known[me].id != saw ->
            phase = BEGIN; saw = 0;
#ifdef ALL                         /* made, deleted, and not known any more: what it makes now is another one */
            gone = gone & ~BIT(MINE); asked = asked & ~BIT(MINE); thrown = thrown & ~BIT(MINE)
#endif
        :: phase == FINISH && (!STANDS(known[me]) || NAMES_CONDEMNED(known[me])) -> goto end
        :: else
        fi;
#ifndef BREAK_DECIDE_AGAIN
        if
        :: TAKEN(me) -> goto taken
        :: else
        fi;
#endif
        d_step {
            prepare(known[me]);
#ifdef BREAK_DECIDE_AGAIN          /* R2: after a lost race the same change goes under the next number */
            draft.num = top + 1; draft.id = top + 1; draft.prev = newest.id;
#endif
            if
            :: phase == AT_ONCE ->
                draft.roots = draft.roots | BIT(MINE); draft.need[MINE] = draft.need[0] | BIT(ONCE(me))
            :: phase == BEGIN -> decide_begin(me, op)
            :: phase == FINISH ->
                leave(me);
                draft.roots = draft.roots | BIT(MINE); draft.need[MINE] = base | adopted | BIT(NAME(me))
            fi
        };
        SEND(me)
    };
#ifdef TRIM
unanswered:
    atomic { RESOLVE(me) };
#endif
#ifndef BREAK_DECIDE_AGAIN
taken:
    find(me, known[me].num + 1, true);
    goto try;
#endif
count:
    if
    :: !UNCHECKED(me) ->
        counts(me);
        if
        :: counted
        :: else -> goto try
        fi
    :: UNCHECKED(me) ->          /* nothing relies on it; the check of the second commit covers this one */
#ifdef TRIM
        d_step { copy(known[me], made[me]) }
#else
        skip
#endif
    fi;
    atomic {
        counted = false;
        if
        :: phase != BEGIN -> goto success
        :: phase == BEGIN && !HAS(known[me].attempts, me) -> goto end      /* taken over, or given up */
        :: else
        fi;
        d_step {
            phase = FINISH;
            epoch = known[me].ep[me];
#ifdef BREAK_PARENT                /* R13: reads the parent's present revision, not the one that it pinned */
            base = (HAS(known[me].roots, 0) -> known[me].need[0] : 0)
#else
            base = known[me].pin[me]
#endif
        };
        FORGOTTEN(me)
    };
    d_step {                       /* R10: what it adopts is read back, after the takeover counts */
        j = 0;
        do
        :: j < OBJECTS ->
            if
#ifdef BREAK_ADOPTED_UNREAD        /* R10: believes that all that a dead run meant to send is there */
            :: j == OWN(A) && known[me].adopts[me] != 0 -> adopted = adopted | BIT(j)
#else
#ifdef BREAK_ADOPTS
            :: j == OWN(A) && me == B && HAS(objects, j) -> adopted = adopted | BIT(j)
#else
            :: HAS(objects, j) && HAS(known[me].adopts[me], born[j]) -> adopted = adopted | BIT(j)
#endif
#endif
            :: else
            fi;
            j++
        :: else -> break
        od;
        put(NAME(me), epoch)
    };
    goto try;

success:
    atomic { d_step {
        n = (HAS(known[me].roots, 1) && op == 0 -> 1 : (HAS(known[me].roots, 2) && op == opB -> 2 : MINE));
        succeeded = succeeded | BIT(n);
#ifdef LOSES_COMMITS
        seen = (known[me].num > seen -> known[me].num : seen);
#endif
        judge()
    } };
end:
    atomic {
        phase = 0; saw = 0; epoch = 0; base = 0; adopted = 0; remembered = 0; counted = false;
#ifdef LOSES_COMMITS
        over = true;
#endif
        DONE(me)
    }
}
#endif

/* ---------------------------------------------------------------- collect */

#ifdef BREAK_EPOCHS                /* R12: does not look which runs may still commit */
#define LIVE(j) false
#else
#define LIVE(j) HAS(epochs, born[j])
#endif

/* R12: what is listed, needed by nobody in this state, and not of a run that may still commit. */
inline candidates(s, listed) {
#ifdef BREAK_PIN                   /* R13: a pin is of a backup, at whatever revision that is now */
    needed_by_backups(s);
#else
    needed_by(s);
#endif
#ifdef BREAK_REACHABLE             /* R12: forgets the bases that lie under patches */
    found = (HAS(found, PATCH) -> found & ~BIT(BASE) : found);
#endif
    epochs_of(s);
    found = listed & ~found;
    j = 0;
    do
    :: j < OBJECTS ->
        if
        :: HAS(found, j) && (LIVE(j) || born[j] > s.epoch) -> found = found & ~BIT(j)
        :: else
        fi;
        j++
    :: else -> break
    od;
    j = 0
}

#if COLLECTORS > 0
proctype Collector(byte me) {
    mtype phase;
    byte high, round, batch, doomed, emptied, given_up, late;
    bool counted, stop;

again:
#ifdef LOSES_COMMITS
    resting = true;
    resting = false;
#endif
    atomic {
        batch = 0; doomed = 0; phase = 0;
        if
        :: round == ROUNDS -> goto end
        :: else -> round++
        fi
    };
    find(me, FIRST, false);
    atomic {
#ifdef LOSES_COMMITS
#ifndef BREAK_SEEN
        if
        :: known[me].num < seen -> goto end       /* R6: an older state than one that was seen before */
        :: else
        fi;
#endif
        seen = (known[me].num > seen -> known[me].num : seen);
#endif
        if
        :: known[me].condemned != 0 -> doomed = known[me].condemned; goto delete    /* of one that died */
        :: else
        fi;
        /* Empties what is due in the trash, gives up runs that seem dead. By clocks, so it may be any. */
        if
        :: known[me].trash != 0 -> emptied = known[me].trash
        :: true
        fi;
        do
        :: given_up < known[me].attempts -> given_up++
        :: (given_up & ~known[me].attempts) == 0 -> break
        od;
        if
        :: (emptied | given_up) != 0 -> phase = TIDY; goto try
        :: else
        fi
    };
list:
    atomic {
        d_step {
            batch = objects;       /* R12: listed after the state was read */
            needed_by(known[me]);
            stop = ((found & ~batch) != 0);            /* R12: what is needed must be listed */
            j = 0;
            do
            :: j < OBJECTS ->      /* R6: an object of an epoch that the newest state does not know */
                if
                :: HAS(batch, j) && born[j] > newest.epoch -> stop = true
                :: else
                fi;
                j++
            :: else -> break
            od;
            candidates(known[me], batch);
            batch = found
        };
        if
        :: stop || batch == 0 -> stop = false; goto again
        :: else
        fi;
        do                         /* listings lag, rounds are limited: all of the candidates, or the last few */
        :: (batch & (batch - 1)) != 0 -> batch = batch & (batch - 1)
        :: break
        od;
        phase = CONDEMN
    };
#ifdef BREAK_DELETE_EARLY          /* R11: deletes first, and then writes down that it did */
    d_step { remove(batch) };
#endif
try:
    atomic {
#ifdef BREAK_DECIDE_CONDEMN
        if
        :: phase == CONDEMN -> d_step { copy(known[me], newest) }     /* R2: after a lost race it keeps its candidates */
        :: else
        fi;
#endif
        if
        :: TAKEN(me) -> goto taken
        :: else
        fi;
        d_step {
            if
            :: phase == TIDY -> found = (emptied & known[me].trash) | (given_up & known[me].attempts)
            :: phase == CONDEMN ->
#ifdef BREAK_DECIDE_CONDEMN
                found = batch
#else
                candidates(known[me], batch);
                found = found & ~known[me].condemned
#endif
            :: phase == FORGET -> found = doomed & known[me].condemned
            fi;
            stop = (found == 0)
        };
        if
        :: stop -> stop = false; goto left            /* by this state there is nothing to do */
        :: else
        fi;
        d_step {
            n = found;
            prepare(known[me]);
            if
            :: phase == TIDY ->
                draft.roots = draft.roots & ~(emptied & draft.trash);
                draft.trash = draft.trash & ~emptied;
                j = 0;
                do
                :: j < ATTEMPTS ->
                    if
                    :: HAS(given_up, j) -> leave(j)
                    :: else
                    fi;
                    j++
                :: else -> break
                od;
                j = 0
            :: phase == CONDEMN -> draft.condemned = draft.condemned | n
            :: phase == FORGET -> draft.condemned = draft.condemned & ~n
            fi
        };
        SEND(me)
    };
#ifdef TRIM
unanswered:
    atomic { RESOLVE(me) };
#endif
taken:
    find(me, known[me].num + 1, true);
    goto try;
count:
    counts(me);
    atomic {
        if
        :: counted -> counted = false; FORGOTTEN(me)
        :: else -> goto try
        fi
    };
left:
    atomic {
        if
        :: phase == TIDY -> emptied = 0; given_up = 0; phase = 0; goto list
        :: phase == CONDEMN -> doomed = known[me].condemned; batch = 0
        :: phase == FORGET -> late = late | doomed; goto again
        fi;
        if
        :: doomed == 0 -> goto again
        :: else
        fi
    };
delete:
    atomic {
        if
        :: true -> d_step { remove(doomed) }
        :: round < ROUNDS -> goto again               /* dies, and is started again */
        fi;
#ifdef SECOND_LINE
        goto again
#else
        phase = FORGET;
        goto try
#endif
    };
end:
    atomic {
        if                         /* R5: a request that was sent twice may arrive late. No name is used again. */
        :: late != 0 -> d_step { remove(late) }
        :: true
        fi;
        phase = 0; round = 0; batch = 0; doomed = 0; emptied = 0; given_up = 0; late = 0;
        DONE(me)
    }
}
#endif

/* ---------------------------------------------------------------- compaction */

#if COMPACTIONS > 0
#ifdef BREAK_COMPACT_REVISION
#define AS_READ(r) true
#else
#define AS_READ(r) (REVISION(draft.revision, r) == REVISION(revisions, r))
#endif

/* What of the victim is alive is copied, and each root that needs it gets a next revision that needs the copy. */
proctype Compaction(byte me; byte victim) {
    mtype phase = BEGIN;
    byte high, epoch, were, revisions, labels;
    byte needed[ROOTS];
    bool counted;

    find_any(me);
try:
    atomic {
        if
        :: phase == FINISH && !HAS(known[me].attempts, me) -> goto end     /* R4 */
        :: else
        fi;
        if
        :: TAKEN(me) -> goto taken
        :: else
        fi;
        d_step {
            prepare(known[me]);
            if
            :: phase == BEGIN ->
                draft.epoch++; draft.attempts = draft.attempts | BIT(me); draft.ep[me] = draft.epoch
            :: phase == FINISH ->
                leave(me);
#ifdef BREAK_COMPACT_ROOTS         /* R2: puts the backups and their labels back as it read them */
                draft.roots = were; draft.trash = labels;
#endif
                j = 0;
                do
                :: j < ROOTS ->
                    if             /* R2: only where the root stands, at the revision that was read */
                    :: HAS(draft.roots & were, j) && HAS(needed[j], victim) && AS_READ(j) ->
                        draft.need[j] = (needed[j] & ~BIT(victim)) | BIT(COPY(me));
                        draft.revision = draft.revision + BIT(2 * j)
                    :: else
                    fi;
                    j++
                :: else -> break
                od;
                j = 0
            fi
        };
        SEND(me)
    };
#ifdef TRIM
unanswered:
    atomic { RESOLVE(me) };
#endif
taken:
    find(me, known[me].num + 1, true);
    goto try;
count:
    counts(me);
    atomic {
        if
        :: !counted -> goto try
        :: counted && (phase == FINISH || !HAS(known[me].attempts, me)) -> goto end
        :: else -> counted = false
        fi;
        d_step {
            phase = FINISH;
            epoch = known[me].ep[me]; were = known[me].roots; revisions = known[me].revision; labels = known[me].trash;
            j = 0;
            do
            :: j < ROOTS -> needed[j] = known[me].need[j]; j++
            :: else -> break
            od;
            j = 0
        };
        FORGOTTEN(me)
    };
    atomic {                       /* R14: the victim is read whole, the copy is read back; what is wrong ends it */
        if
        :: !HAS(objects, victim) -> goto end
        :: HAS(objects, victim) -> d_step { put(COPY(me), epoch) }
        :: HAS(objects, victim)                       /* acknowledged, and yet not there as it should be */
        fi;
        epoch = 0
    };
#ifndef BREAK_COPY_UNREAD
    if
    :: HAS(objects, COPY(me))
    :: else -> goto end
    fi;
#endif
    goto try;
end:
    atomic {
        phase = 0; epoch = 0; were = 0; revisions = 0; labels = 0; counted = false;
        needed[0] = 0; needed[1] = 0; needed[2] = 0;
        DONE(me)
    }
}
#endif

/* ---------------------------------------------------------------- a restore */

#ifdef READER
/* One without a pin, as where it may not write: who reads a backup that is deleted or compacted meanwhile may have to begin again. */
proctype Reader() {
    byte root, revision, needs;

    atomic {
        if                         /* which backup is wanted */
        :: root = 0
        :: root = 1
        fi;
        if
        :: HAS(newest.roots, root) -> needs = newest.need[root]; revision = REVISION(newest.revision, root)
        :: else                    /* there is no such backup (any more) */
        fi
    };
    assert((needs & ~objects) == 0 || !HAS(newest.roots, root) || revision != REVISION(newest.revision, root));
    d_step { root = 0; revision = 0; needs = 0 }
}
#endif

/* ---------------------------------------------------------------- what else happens */

#define ALONE(change) \
    d_step { prepare(newest); change; create(draft) }

#ifdef DELETER
proctype Deleter() {
    byte root;

    atomic {
        if
        :: root = 0
#ifndef FEWER
        :: root = 1
#endif
        fi;
        if
        :: !HAS(newest.roots, root) -> goto end
        :: else -> asked = asked | BIT(root)
        fi;
        if
        :: ALONE(draft.roots = draft.roots & ~BIT(root)); gone = gone | BIT(root); goto end
        :: ALONE(draft.trash = draft.trash | BIT(root)); thrown = thrown | BIT(root)
        fi
    };
#ifndef FEWER
    atomic {                       /* brings it back */
        if
        :: HAS(newest.roots, root) ->
            thrown = thrown & ~BIT(root); asked = asked & ~BIT(root);
            ALONE(draft.trash = draft.trash & ~BIT(root))
        :: else                    /* too late */
        fi
    };
#endif
end:
    root = 0
}
#endif

#ifdef TICKS
proctype Others() {                /* labels, results of verification, backups of which nothing more is told here */
    byte count;

    do
    :: count < TICKS -> atomic { count++; ALONE(skip) }
    :: else -> break
    od;
    count = 0
}
#endif

#ifdef TRIM
#ifdef BREAK_TRIM_LATEST           /* R3: keeps fewer of the latest than there are numbers between two milestones */
#define OLD(number) (number < top)
#else
#define OLD(number) (number + KEEP <= top)
#endif
#ifdef BREAK_TRIM_MILESTONES       /* R3: keeps the latest only */
#define TO_TRIM(number) true
#else
#define TO_TRIM(number) (number % MILESTONE != 0)
#endif

proctype Trimmer() {               /* the lowest first; at any time */
    byte low = FIRST + 1;

end:
    do
    :: d_step {
        OLD(low) ->
        if
        :: TO_TRIM(low) ->
            at[low] = 0;
#ifdef REMEMBER
            copy(held[low], nothing)
#endif
        :: else
        fi;
        low++
       }
    od
}
#endif

#ifdef LOSES_COMMITS
proctype Rollback() {
    byte old;

    atomic {
        over && resting && top > FIRST ->
        d_step {
            needed_by_backups(newest);
            missed = 0; j = 0;
            do
            :: j < ROOTS ->
                if
                :: HAS(succeeded & ~asked, j) -> missed = missed | newest.need[j]
                :: else
                fi;
                j++
            :: else -> break
            od;
            lost = true; old = top
        };
        do                         /* back to any earlier commit */
        :: top > FIRST -> d_step { at[top] = 0; top--; copy(newest, held[top]) }
        :: top < old -> break
        od;
        old = 0
    }
}
#endif

init {
    d_step {
        top = FIRST; at[FIRST] = FIRST;
        newest.id = FIRST; newest.num = FIRST; newest.epoch = 1; newest.roots = 1; newest.need[0] = BIT(BASE) | BIT(PATCH);
        objects = BIT(BASE) | BIT(PATCH); born[BASE] = 1; born[PATCH] = 1;
#ifdef TRIM
        ids = FIRST; newest.out[0] = FIRST;
#endif
#ifdef REMEMBER
        copy(held[FIRST], newest);
#endif
        n = 0
    };
    atomic {
#if defined(WRITER_B) && !defined(SAME_OPERATION)
        if
        :: opB = 0
        :: opB = 1
        fi;
#endif
#ifdef WRITER_A
        run Writer(A, 0);
#endif
#ifdef WRITER_B
        run Writer(B, opB);
#endif
#ifdef READER
        run Reader();
#endif
#if COMPACTIONS > 0
        run Compaction(COMPACTION, BASE);
#endif
#if COMPACTIONS > 1
        run Compaction(COMPACTION + 1, PATCH);
#endif
#if COLLECTORS > 0
        run Collector(COLLECTING);
#endif
#if COLLECTORS > 1
        run Collector(COLLECTING + 1);
#endif
#ifdef DELETER
        run Deleter();
#endif
#ifdef TICKS
        run Others();
#endif
#ifdef TRIM
        run Trimmer();
#endif
#ifdef LOSES_COMMITS
        run Rollback();
#endif
    }
}
