/* room.h - is there memory for an image? */
#ifndef IMAGE_ROOM_H
#define IMAGE_ROOM_H
#include "bus/mp.h"

/* Of a launch's "image": its bytes, so many times, against what this machine has available.
 * -1: ENOMEM, and how much of each. One that does not say how large it is fits. */
int image_room(const msgpack_object *image, size_t times, struct err *err);

#endif
