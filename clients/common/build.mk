# what clients share: programs name $(B)/libclients.a before $(LIBCM)
$(B)/libclients.a: $(call objs,clients/common/table.c clients/common/users.c \
                   clients/common/opt.c clients/common/json.c clients/common/nodes.c \
                   clients/common/follow.c clients/common/calls.c clients/common/find.c)
