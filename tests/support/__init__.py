"""What tests share: data, real servers, processes under control, and slow references."""
